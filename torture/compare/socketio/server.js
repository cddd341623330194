// One socket.io server, as its documentation sets one up for production: an adapter that connects
// it with its peers through Redis, ioredis as the client (the documentation warns of the other
// one, which does not restore its subscriptions), acknowledgements for what clients send.
//
// From the environment: PORT, REDIS_PORT, ADAPTER ("redis" or "streams"), PING_INTERVAL_MS,
// PING_TIMEOUT_MS.
import { createServer } from "node:http";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { createAdapter as pubsubAdapter } from "@socket.io/redis-adapter";
import { createAdapter as streamsAdapter } from "@socket.io/redis-streams-adapter";

const { PORT, REDIS_PORT, ADAPTER, PING_INTERVAL_MS, PING_TIMEOUT_MS } = process.env;

// ioredis reports every failed attempt to reconnect as an event, which would otherwise be fatal.
const watched = (client) => client.on("error", (error) => console.error(`redis: ${error.message}`));
process.on("unhandledRejection", (error) => console.error(`unhandled: ${error}`));

const main = watched(new Redis(Number(REDIS_PORT), "127.0.0.1"));
const options = {
  path: "/ws",
  addTrailingSlash: false,
  transports: ["websocket"],
  pingInterval: Number(PING_INTERVAL_MS),
  pingTimeout: Number(PING_TIMEOUT_MS),
};
if (ADAPTER === "streams") {
  options.adapter = streamsAdapter(main);
  options.connectionStateRecovery = { maxDisconnectionDuration: 2 * 60 * 1000 };
} else {
  options.adapter = pubsubAdapter(main, watched(main.duplicate()));
}

// Ready once Redis was there. A check that followed Redis would have HAProxy cut every socket
// whenever Redis is away for a second.
let started = false;
main.once("ready", () => { started = true; });
const http = createServer((request, response) => {
  const ready = request.url === "/readyz" && started;
  response.writeHead(ready ? 200 : 503).end();
});
const io = new Server(http, options);

io.on("connection", async (socket) => {
  // Before anything is awaited: an event without a listener is dropped.
  socket.on("message", (message, acknowledge) => {
    io.to(message.channel).emit("message", message);
    acknowledge();
  });
  // Without a recovery the rooms are gone with the old connection: the application joins again,
  // here at the earliest moment, without a further round trip.
  if (!socket.recovered) {
    await socket.join(socket.handshake.auth.channels);
  }
  socket.emit("joined");
});

http.listen(Number(PORT), "127.0.0.1");
