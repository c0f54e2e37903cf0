// Buys a lamp through clients whose types openapi-typescript has generated; openapi-fetch sends what they allow.
import createClient from "openapi-fetch";

import type { paths as DeliveryPaths } from "./delivery.js";
import type { paths as OrderPaths } from "./order.js";
import type { paths as PaymentPaths } from "./payment.js";
import type { paths as StockPaths } from "./stock.js";

declare const process: { argv: string[] };

function expect(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

const baseUrl = process.argv[2] ?? "";
const orders = createClient<OrderPaths>({ baseUrl });
const payment = createClient<PaymentPaths>({ baseUrl });
const stock = createClient<StockPaths>({ baseUrl });
const delivery = createClient<DeliveryPaths>({ baseUrl });

const opened = await payment.POST("/payment/users", {
  params: { header: { "Idempotency-Key": `anna-${Date.now()}` } },
  body: { name: "Anna", balance: 15 },
});
const account = opened.data;
expect(account !== undefined && "user_id" in account, "an account is opened");
const added = await stock.POST("/stock/products", { body: { name: "lamp", price: 10, quantity: 3 } });
const lamp = added.data;
expect(lamp !== undefined && "product_id" in lamp, "a lamp is added");
const startsAt = new Date(Date.now() + 86_400_000).toISOString();
const slots = await delivery.POST("/delivery/slots", { body: { starts_at: startsAt, couriers: ["Mila", "Oleg"] } });
const slot = slots.data;
expect(slot !== undefined && "slot_id" in slot, "a slot is opened");

const wanted = {
  user_id: account.user_id,
  items: [{ product_id: lamp.product_id, quantity: 1 }],
  slot_id: slot.slot_id,
};
const placed = await orders.POST("/orders", { body: wanted });
const order = placed.data;
expect(order?.status === "confirmed" && order.total === 10, "the lamp is bought");
const shown = await orders.GET("/orders/{order_id}", { params: { path: { order_id: order.order_id } } });
expect(shown.data?.status === "confirmed" && shown.data.courier === "Mila", "the order is shown");

const refused = await orders.POST("/orders", { body: wanted });
const refusals = refused.error !== undefined && "refusals" in refused.error ? refused.error.refusals : [];
expect(refusals.length === 1 && refusals[0]?.reason === "insufficient_funds", "a second lamp is refused");

const left = await payment.GET("/payment/users/{user_id}", { params: { path: { user_id: account.user_id } } });
expect(left.data?.balance === 5, "ten are paid");
console.log("a lamp was bought");
