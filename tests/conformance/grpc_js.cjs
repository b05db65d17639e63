// Calls tests.conformance.service with @grpc/grpc-js; prints what happened as JSON. usage: node grpc_js.cjs PORT
const grpc = require("@grpc/grpc-js");

const same = (value) => value;
const client = new grpc.Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
});

function call(method, body, { metadata = {}, deadline_ms = 30000, cancel_ms } = {}) {
  const sent = new grpc.Metadata();
  for (const [key, value] of Object.entries(metadata)) sent.set(key, value);
  return new Promise((resolve) => {
    const options = { deadline: Date.now() + deadline_ms };
    const path = `/test.Conformance/${method}`;
    const started = client.makeUnaryRequest(path, same, same, body, sent, options, (error, reply) => {
      answer = { code: error ? error.code : 0, details: error ? error.details : "", reply };
    });
    let answer;
    started.on("status", (status) => resolve({ ...answer, trailers: status.metadata.getMap() }));
    if (cancel_ms !== undefined) setTimeout(() => started.cancel(), cancel_ms);
  });
}

async function main() {
  const large = Buffer.alloc(64 << 20, 7);
  const results = {};
  results.echo = (await call("Echo", Buffer.from("hello"))).reply.toString();
  results.large = large.equals((await call("Echo", large)).reply);
  const bodies = [...Array(300).keys()].map((number) => Buffer.from(`body ${number}`));
  const replies = await Promise.all(bodies.map((body) => call("Echo", body)));
  results.many = replies.every(({ reply }, index) => bodies[index].equals(reply));
  const mirrored = await call("Mirror", Buffer.alloc(0), { metadata: { "x-user-id": "u1", "x-blob-bin": Buffer.from([0, 255]) } });
  results.trailers = { user: mirrored.trailers["x-user-id"], blob: [...mirrored.trailers["x-blob-bin"]] };
  results.unknown = (await call("Nothing", Buffer.alloc(1 << 20))).code;
  const failed = await call("Fail", Buffer.from("100 % Größe"), { metadata: { code: "8" } });
  results.failed = [failed.code, failed.details];
  results.deadline = (await call("Wait", Buffer.alloc(0), { deadline_ms: 200 })).code;
  results.cancelled = (await call("Wait", Buffer.alloc(0), { cancel_ms: 100 })).code;
  while ((await call("Cancelled", Buffer.alloc(0))).reply.toString() !== "2");
  results.after = (await call("Echo", Buffer.from("still here"))).reply.toString();
  client.close();
  console.log(JSON.stringify(results));
}

main();
