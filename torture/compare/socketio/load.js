// Every client of a run: listeners and writers, each with a socket of its own through a link of
// its own. Writes what they see as lines of a history, and is told by HTTP when to begin.
//
// Argument: the path of a JSON file with the plan. GET /ready: 200 once everybody is connected and
// joined. GET /play: begins. GET /played: 200 once every send has its last answer. GET /close: the
// end.
import { createWriteStream, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { io } from "socket.io-client";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const history = createWriteStream(plan.history);

function record(event) {
  const now = performance.timeOrigin + performance.now();
  const at_us = Math.max(0, Math.round((now - plan.began_unix_ms) * 1000));
  history.write(JSON.stringify({ at_us, event }) + "\n");
}

// CRC-32 (IEEE), as the history wants it of every text.
const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});
function sum(text) {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(text)) crc = table[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function entry({ channel, user, id, text }) {
  // There are no seqs here; 0 stands for "none".
  return { channel, seq: 0, user, id, sum: sum(text), kind: "message" };
}

const joined = new Set();
let unanswered = 0;
let playing = false;

function connect({ name, user, channels, port }) {
  const socket = io(`http://127.0.0.1:${port}`, {
    path: "/ws",
    addTrailingSlash: false,
    transports: ["websocket"],
    forceNew: true,
    reconnectionDelay: plan.backoff_first_ms,
    reconnectionDelayMax: plan.backoff_cap_ms,
    timeout: plan.connect_ms,
    retries: plan.retries,
    ackTimeout: plan.ack_timeout_ms,
    auth: { user, channels },
  });
  let connection = 0;
  const device = name;
  socket.on("connect", () => {
    connection += 1;
    record({ opened: { device, user, connection, pod: "" } });
  });
  socket.on("joined", () => {
    // Recovered: the server says that it sent what was missed.
    const recovered = socket.recovered === true;
    for (const channel of channels) {
      const since = recovered ? 0 : null;
      const reply = { device, connection, channel, since, head: null, recovered, ordered: false };
      record({ joined: reply });
    }
    joined.add(name);
  });
  socket.on("message", (message) => {
    record({ given: { device, record: entry(message), via: "live" } });
  });
  socket.on("disconnect", () => record({ closed: { device, connection, code: null } }));
  return socket;
}

const listeners = plan.listeners.map(connect);
const writers = plan.writers.map((writer) => connect({ ...writer, channels: [] }));

function send({ writer, channel, id, text }, op) {
  const message = { channel, user: plan.writers[writer].user, id, text };
  record({ invoke: { op, record: entry(message), answers: null, retry: false } });
  writers[writer].emit("message", message, (error) => {
    unanswered -= 1;
    record(error ? { unknown: { op, code: "no_answer" } } : { ok: { op, seq: null } });
  });
}

function play() {
  unanswered = plan.messages.length;
  playing = true;
  plan.messages.forEach((message, n) => setTimeout(send, message.at_ms, message, n + 1));
}

function close() {
  for (const socket of [...listeners, ...writers]) socket.disconnect();
  // The disconnections are recorded in the same turn.
  history.end(() => process.exit(0));
}

const questions = {
  "/ready": () => joined.size === listeners.length + writers.length,
  "/play": () => { if (!playing) play(); return true; },
  "/played": () => playing && unanswered === 0,
  "/close": () => { setImmediate(close); return true; },
};
createServer((request, response) => {
  const answer = questions[request.url]?.() ?? false;
  response.writeHead(answer ? 200 : 404, { connection: "close" }).end();
}).listen(plan.control_port, "127.0.0.1");
