// Runs interop calls with @grpc/grpc-js. usage: node grpc_js.cjs PORT [CA] < calls.json > results.json
//
// calls.json: {calls: {name: {method, requests: [base64], metadata, deadline_ms, in_turn, cancel_after, stay, compress}}}
//   in_turn: each request waits for the reply to the one before; stay: never half-close;
//   cancel_after: how many replies to wait for before cancelling; compress: 0 none, 1 deflate, 2 gzip.
// results: {name: {code, details, replies: [base64], initial, trailing}}; "-bin" metadata as base64.
const fs = require("fs");
const grpc = require("@grpc/grpc-js");

const same = (value) => value;

function metadata_of(pairs) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(pairs || {})) {
    metadata.set(key, key.endsWith("-bin") ? Buffer.from(value, "base64") : value);
  }
  return metadata;
}

function plain(metadata) {
  const pairs = Object.entries(metadata.getMap());
  return Object.fromEntries(pairs.map(([key, value]) => [key, Buffer.isBuffer(value) ? value.toString("base64") : value]));
}

// Every kind of call is a stream both ways on the wire; grpc-js shows all of them as such.
function run(port, ca, call) {
  const options = {
    "grpc.default_compression_algorithm": call.compress || 0,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.ssl_target_name_override": "localhost",
  };
  const credentials = ca ? grpc.credentials.createSsl(fs.readFileSync(ca)) : grpc.credentials.createInsecure();
  const client = new grpc.Client(`127.0.0.1:${port}`, credentials, options);
  const deadline = Date.now() + (call.deadline_ms || 60000);
  return new Promise((resolve) => {
    const result = { replies: [], initial: {} };
    const waiting = call.requests.map((request) => Buffer.from(request, "base64"));
    const stream = client.makeBidiStreamRequest(call.method, same, same, metadata_of(call.metadata), { deadline });
    const send_next = () => {
      if (waiting.length) stream.write(waiting.shift());
      else if (!call.stay) stream.end();
    };
    stream.on("metadata", (metadata) => (result.initial = plain(metadata)));
    stream.on("error", () => {});
    stream.on("data", (reply) => {
      result.replies.push(reply.toString("base64"));
      if (result.replies.length === call.cancel_after) stream.cancel();
      else if (call.in_turn) send_next();
    });
    stream.on("status", ({ code, details, metadata }) => {
      client.close();
      resolve({ ...result, code, details, trailing: plain(metadata) });
    });
    if (call.cancel_after === 0) stream.cancel();
    else if (call.in_turn) send_next();
    else {
      while (waiting.length) send_next();
      send_next();
    }
  });
}

async function main() {
  const results = {};
  const [port, ca] = process.argv.slice(2);
  const { calls } = JSON.parse(fs.readFileSync(0));
  for (const [name, call] of Object.entries(calls)) results[name] = await run(port, ca, call);
  console.log(JSON.stringify(results));
}

main();
