// HTTP as most Node.js services do it: Express, and pg for Postgres. It answers less than Hubbub's
// API does (no token, no membership, no `has_more`), which is in its favour.
//
// GET /page/:bytes                               so many bytes, made once
// GET /channels/:id/messages?before=&limit=50    a page of the store's own table, keyset on its key
//
// Production settings of both documentations: NODE_ENV=production (given by whoever starts it),
// no X-Powered-By, a pool, a named statement, which the server prepares once a connection. ETags,
// which Express computes over every answer, are off. From the environment: PORT, DATABASE_URL.
import express from "express";
import pg from "pg";

const { PORT, DATABASE_URL } = process.env;
const POOL = 4;
const LARGEST_PAGE = 1 << 20;
const NEWEST = "9223372036854775807";
const PAGE_OF_HISTORY = {
  name: "page",
  text: `select seq, body from messages
         where channel_id = $1 and seq < $2 order by seq desc limit $3`,
};

const app = express();
app.disable("x-powered-by");
app.set("etag", false);
app.get("/ready", (request, response) => response.end());

const pages = new Map();
app.get("/page/:bytes", (request, response) => {
  const bytes = Math.min(Number(request.params.bytes), LARGEST_PAGE);
  let page = pages.get(bytes);
  if (page === undefined) pages.set(bytes, (page = Buffer.alloc(bytes, "x")));
  response.type("application/json").send(page);
});

if (DATABASE_URL) {
  const pool = new pg.Pool({ connectionString: DATABASE_URL, max: POOL });
  pool.on("error", (error) => console.error(`postgres: ${error.message}`));
  app.get("/channels/:id/messages", async (request, response) => {
    // C000000005: a letter, then the number in base 36.
    const channel = Number.parseInt(request.params.id.slice(1), 36);
    const { before, limit } = request.query;
    const values = [channel, before || NEWEST, limit || 50];
    const { rows } = await pool.query({ ...PAGE_OF_HISTORY, values });
    const messages = rows.map(({ seq, body }) => ({ seq: Number(seq), ...JSON.parse(body) }));
    response.json({ messages: messages.reverse() });
  });
}

app.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 4096 });
