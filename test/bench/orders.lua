-- The orders that wrk sends: random user, product and slot out of the given ranges; one order in ten carries a new
-- Idempotency-Key. Arguments: users, products, slots (each FIRST-LAST), and a word that makes the keys of this run unlike
-- those of any other. Slots given as FIRST+ are filled one after the other, so that all orders meet in the same one. When the
-- run ends, one line of JSON tells what wrk has counted. REPLICAS in the environment names an address for each thread.
local couriers_per_slot = 1000
local threads = 0
local replicas = {}
for host, port in (os.getenv("REPLICAS") or ""):gmatch("(%S+):(%d+)") do
    table.insert(replicas, { host = host, port = port })
end

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
    if replicas[threads] then
        thread.addr = wrk.lookup(replicas[threads].host, replicas[threads].port)[1]
    end
end

local function range(text)
    local first, last = text:match("^(%d+)-(%d+)$")
    return tonumber(first), tonumber(last)
end

function init(arguments)
    users_first, users_last = range(arguments[1])
    products_first, products_last = range(arguments[2])
    slots_first, slots_last = range(arguments[3])
    slots_begin = tonumber(arguments[3]:match("^(%d+)%+$"))
    run = arguments[4]
    sent = 0
    math.randomseed(number + #run + tonumber(run:sub(1, 8), 16))
    plain = { ["Content-Type"] = "application/json" }
end

local function slot()
    if slots_begin then
        return slots_begin + math.floor(sent / couriers_per_slot)
    end
    return math.random(slots_first, slots_last)
end

function request()
    sent = sent + 1
    local body = string.format(
        '{"user_id":%d,"items":[{"product_id":%d,"quantity":1}],"slot_id":%d}',
        math.random(users_first, users_last), math.random(products_first, products_last), slot()
    )
    local headers = plain
    if sent % 10 == 0 then
        headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = run .. "-" .. number .. "-" .. sent }
    end
    return wrk.format("POST", "/orders", headers, body)
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'counted {"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"refused":%d,"lost":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(90) / 1000,
        latency:percentile(99) / 1000, latency.max / 1000, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout
    ))
end
