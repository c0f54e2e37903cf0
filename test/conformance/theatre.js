// A participant in another language: a theatre that sells seats. Written from two_phase/README.md alone, without dependencies.
//
//   PARTICIPANT_KEY=... DATA=seats.log PORT=9000 SEATS=20 node theatre.js
//   COORDINATOR_URL=http://... lets it ask about its branches in doubt.
//
// The trick to know: its only durable state is a file with one line per round, the branches that the round has changed. A round
// is written and flushed before it is answered, and what is free is counted from the branches, so that the two cannot differ.
// One process owns the file. JavaScript runs one round at a time, so a round is a transaction without further ado.

"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const { dirname } = require("node:path");
const { isDeepStrictEqual } = require("node:util");

const VERSION = 1;
const DECISIONS_MAX = 4096;
const PREPARES_MAX = 1024;
const INSTEAD_OF_MAX = 16;
const BODY_BYTES_MAX = 16 * 1024 * 1024;
const IN_DOUBT_AFTER_MS = Number(process.env.IN_DOUBT_AFTER_MS || 5000);
const SWEEP_EVERY_MS = 1000;
const ANSWER_WITHIN_MS = 2000;
// Longer than the coordinator keeps an idle connection, so that it never writes into one that we are closing.
const KEEP_ALIVE_MS = 75000;
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const FIRST_ID = "00000000-0000-0000-0000-000000000000";
const STATES = ["prepared", "committed", "aborted"];

class Malformed extends Error {}

// ---- what is on disk -------------------------------------------------------------------------------------------------------

class Branches {
  constructor(path) {
    this.byId = new Map();
    this.file = fs.openSync(path, "a+");
    // The name of a new file is flushed with its folder.
    const folder = fs.openSync(dirname(path));
    fs.fsyncSync(folder);
    fs.closeSync(folder);
    const text = fs.readFileSync(path);
    const whole = text.lastIndexOf("\n") + 1;
    // A line without its end was never flushed, so nothing was ever said on the strength of it.
    fs.ftruncateSync(this.file, whole);
    for (const line of text.subarray(0, whole).toString().split("\n").filter(Boolean)) {
      for (const branch of JSON.parse(line)) this.byId.set(branch.transaction_id, branch);
    }
  }

  write(changed) {
    if (changed.length) {
      const line = Buffer.from(JSON.stringify(changed) + "\n");
      if (fs.writeSync(this.file, line) !== line.length) throw new Error("the disk is full");
    }
    // Also where nothing has changed: what a repeated vote rests on may be written and not flushed yet.
    fs.fsyncSync(this.file);
  }

  held() {
    let seats = 0;
    for (const { state, payload } of this.byId.values()) if (state !== "aborted") seats += payload.seats;
    return seats;
  }
}

// ---- one round -------------------------------------------------------------------------------------------------------------

class Theatre {
  constructor(branches, seats) {
    this.branches = branches;
    this.free = seats - branches.held();
  }

  round(message) {
    const ballot = { version: VERSION, votes: [], acknowledged: [], violations: [] };
    const changed = new Set();
    const earlier = message.prepares.flatMap((prepare) => prepare.instead_of);
    for (const id of new Set([...message.aborts, ...earlier])) this.abort(id, message.generation, ballot, changed);
    for (const id of new Set(message.commits)) this.commit(id, ballot, changed);
    for (const prepare of message.prepares) this.prepare(prepare, message.generation, ballot, changed);
    this.branches.write([...changed].map((id) => this.branches.byId.get(id)));
    return ballot;
  }

  abort(id, generation, ballot, changed) {
    const branch = this.branches.byId.get(id);
    if (branch?.state === "committed") {
      ballot.violations.push({ transaction_id: id, detail: "abort of a committed branch" });
      return;
    }
    if (branch?.state === "prepared") this.free += branch.payload.seats;
    if (branch?.state !== "aborted") {
      this.set({ ...(branch ?? recorded(id, generation, null)), state: "aborted", reason: "aborted" }, changed);
    }
    ballot.acknowledged.push(id);
  }

  commit(id, ballot, changed) {
    const branch = this.branches.byId.get(id);
    if (branch === undefined || branch.state === "aborted") {
      const what = branch ? "an aborted" : "an unknown";
      ballot.violations.push({ transaction_id: id, detail: `commit of ${what} branch` });
      return;
    }
    if (branch.state === "prepared") this.set({ ...branch, state: "committed" }, changed);
    ballot.acknowledged.push(id);
  }

  prepare(prepare, generation, ballot, changed) {
    const id = prepare.transaction_id;
    const known = this.branches.byId.get(id);
    if (known === undefined) {
      const reason = this.obstacle(prepare.payload);
      if (reason === null) this.free -= prepare.payload.seats;
      this.set({ ...recorded(id, generation, prepare.payload), state: reason ? "aborted" : "prepared", reason }, changed);
    } else if (known.payload !== null && !isDeepStrictEqual(known.payload, prepare.payload)) {
      ballot.violations.push({ transaction_id: id, detail: "prepare of a known transaction with another body" });
      return;
    }
    const { state, reason } = this.branches.byId.get(id);
    ballot.votes.push({ transaction_id: id, prepared: state !== "aborted", reason });
  }

  obstacle(payload) {
    const { seats, ...rest } = payload;
    if (!Number.isSafeInteger(seats) || seats < 1 || Object.keys(rest).length) return "not_accepted";
    return seats > this.free ? "no_seats" : null;
  }

  set(branch, changed) {
    this.branches.byId.set(branch.transaction_id, branch);
    changed.add(branch.transaction_id);
  }

  inDoubt() {
    const latest = Date.now() - IN_DOUBT_AFTER_MS;
    return [...this.branches.byId.values()]
      .filter(({ state, at }) => state === "prepared" && at <= latest)
      .map(({ transaction_id, generation }) => ({ transaction_id, generation }));
  }

  listed(query) {
    const state = query.get("state");
    const limit = Number(query.get("limit") ?? 100);
    const after = query.get("after") ?? FIRST_ID;
    check(state === null || STATES.includes(state), "state");
    check(isInteger(limit, 1, 1000), "limit");
    check(ID.test(after), "after");
    return [...this.branches.byId.values()]
      .filter((branch) => branch.transaction_id > after && (state === null || branch.state === state))
      .sort((one, other) => (one.transaction_id < other.transaction_id ? -1 : 1))
      .slice(0, limit)
      .map(({ at, ...branch }) => ({ ...branch, facts: {}, age_seconds: (Date.now() - at) / 1000 }));
  }
}

function recorded(transaction_id, generation, payload) {
  return { transaction_id, generation, payload, reason: null, at: Date.now() };
}

// ---- messages --------------------------------------------------------------------------------------------------------------

function check(holds, what) {
  if (!holds) throw new Malformed(`malformed: ${what}`);
}

function isInteger(value, min, max) {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function checkMembers(value, known, what) {
  check(isObject(value), what);
  for (const member of Object.keys(value)) check(known.includes(member), `${what} has an unknown member`);
}

function ids(value, max, what) {
  check(Array.isArray(value) && value.length <= max, what);
  check(value.every((id) => typeof id === "string" && ID.test(id)), what);
  return value;
}

function parsedPrepare(value) {
  checkMembers(value, ["transaction_id", "payload", "instead_of"], "prepare");
  const { transaction_id, payload, instead_of = [] } = value;
  ids([transaction_id], 1, "transaction_id");
  check(isObject(payload), "payload");
  return { transaction_id, payload, instead_of: ids(instead_of, INSTEAD_OF_MAX, "instead_of") };
}

function parsedRound(body) {
  let value;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new Malformed("not JSON");
  }
  checkMembers(value, ["version", "generation", "aborts", "commits", "prepares"], "round");
  const { version = VERSION, generation, aborts = [], commits = [], prepares = [] } = value;
  check(version === VERSION, "version");
  check(isInteger(generation, 1, Number.MAX_SAFE_INTEGER), "generation");
  check(Array.isArray(prepares) && prepares.length <= PREPARES_MAX, "prepares");
  return {
    generation,
    aborts: ids(aborts, DECISIONS_MAX, "aborts"),
    commits: ids(commits, DECISIONS_MAX, "commits"),
    prepares: prepares.map(parsedPrepare),
  };
}

// ---- HTTP ------------------------------------------------------------------------------------------------------------------

function hash(text) {
  return crypto.createHash("sha256").update(text).digest();
}

async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    // The rest is read and dropped, so that the sender hears the answer.
    if (size <= BODY_BYTES_MAX) parts.push(part);
  }
  return size <= BODY_BYTES_MAX ? Buffer.concat(parts) : null;
}

function serve(theatre, key, port) {
  const expected = hash(`Bearer ${key}`);

  async function answer(request) {
    const url = new URL(request.url, "http://participant");
    const known = crypto.timingSafeEqual(hash(request.headers.authorization ?? ""), expected);
    if (!known) return [401, { detail: "the pair's shared key is needed" }];
    if (request.method === "GET" && url.pathname === "/two-phase/v1/branches") {
      return [200, { items: theatre.listed(url.searchParams) }];
    }
    if (request.method !== "POST" || url.pathname !== "/two-phase/v1/round") return [404, { detail: "not here" }];
    const body = await read(request);
    return body === null ? [413, { detail: "too large" }] : [200, theatre.round(parsedRound(body))];
  }

  const server = http.createServer(async (request, response) => {
    let status, body;
    try {
      [status, body] = await answer(request);
    } catch (error) {
      // What was changed in memory and may not be on disk must not be seen by the next round: begin again from the file.
      if (!(error instanceof Malformed)) throw error;
      [status, body] = [400, { detail: error.message }];
    }
    if (!request.complete) request.resume();
    for (const { detail } of body.violations ?? []) console.error(`protocol violation: ${detail}`);
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(port, "127.0.0.1", () => console.log("ready"));
}

// ---- in doubt --------------------------------------------------------------------------------------------------------------

async function ask(transactions, url, key) {
  const response = await fetch(`${url}/two-phase/v1/outcomes`, {
    method: "POST",
    redirect: "error",
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    body: JSON.stringify({ version: VERSION, transactions }),
  });
  check(response.status === 200, `status ${response.status}`);
  const outcomes = await response.json();
  checkMembers(outcomes, ["version", "confirmed", "cancelled"], "outcomes");
  const { version = VERSION, confirmed = [], cancelled = [] } = outcomes;
  check(version === VERSION, "version");
  const asked = new Set(transactions.map((each) => each.transaction_id));
  const only = (list, what) => ids(list, DECISIONS_MAX, what).filter((id) => asked.has(id));
  return { aborts: only(cancelled, "cancelled"), commits: only(confirmed, "confirmed") };
}

async function sweepForEver(theatre, url, key) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, SWEEP_EVERY_MS));
    const inDoubt = theatre.inDoubt();
    for (let start = 0; start < inDoubt.length; start += DECISIONS_MAX) {
      // Only an answer decides. No answer, a wrong one, a 404: the branches stay in doubt, and are asked about again.
      const decided = await ask(inDoubt.slice(start, start + DECISIONS_MAX), url, key).catch((error) => {
        console.error(`branches stay in doubt: ${error.message}`);
        return null;
      });
      if (decided) theatre.round({ generation: 1, prepares: [], ...decided });
    }
  }
}

const { PARTICIPANT_KEY: key, DATA: data, PORT: port, SEATS: seats, COORDINATOR_URL: coordinator } = process.env;
if (!key || !data || !port || !seats) {
  console.error("PARTICIPANT_KEY, DATA, PORT and SEATS are needed");
  process.exit(2);
}
const theatre = new Theatre(new Branches(data), Number(seats));
serve(theatre, key, Number(port));
if (coordinator) sweepForEver(theatre, coordinator, key);
