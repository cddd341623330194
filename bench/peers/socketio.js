// One socket.io server, as its documentation sets one up for production ("performance tuning",
// "memory usage"): WebSocket only, no compression, bufferutil installed, the first HTTP request of
// a connection given back; with REDIS_URL the Redis adapter, so that several servers are one.
//
// Clients emit `join` with a channel and `pub` with a channel and a payload, which has every member
// of the channel get the event `m`. From the environment: PORT, REDIS_URL.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";

const { PORT, REDIS_URL } = process.env;
const options = {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
};

let ready = true;
if (REDIS_URL) {
  const watched = (client) => client.on("error", (error) => console.error(`redis: ${error.message}`));
  const main = watched(new Redis(REDIS_URL));
  const subscriber = watched(main.duplicate());
  options.adapter = createAdapter(main, subscriber);
  ready = false;
  // Ready once it hears of the others: both connections are there and the subscription stands.
  Promise.all([main.ping(), subscriber.ping()]).then(() => { ready = true; });
}

const http = createServer((request, response) => response.writeHead(ready ? 200 : 503).end());
const io = new Server(http, options);

io.engine.on("connection", (rawSocket) => { rawSocket.request = null; });
io.on("connection", (socket) => {
  socket.on("join", async (channel, acknowledge) => {
    await socket.join(channel);
    acknowledge?.();
  });
  socket.on("pub", (channel, payload, acknowledge) => {
    io.to(channel).emit("m", payload);
    acknowledge?.();
  });
});

http.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 4096 });
