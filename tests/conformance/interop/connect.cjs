// Runs interop calls with @connectrpc/connect-node, as grpc_js.cjs does. usage: node connect.cjs PORT [CA] < calls.json
//
// Beside what is said there: calls.json is {schema, calls}; schema: a FileDescriptorSet with the service, in base64.
const fs = require("fs");
const { fromBinary, toBinary, createFileRegistry } = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");
const { ConnectError } = require("@connectrpc/connect");
const { compressionGzip, createGrpcTransport } = require("@connectrpc/connect-node");

const base64 = (bytes) => Buffer.from(bytes).toString("base64");

function transport_to(port, ca, call) {
  const secure = ca && { ca: fs.readFileSync(ca), servername: "localhost", checkServerIdentity: () => undefined };
  return createGrpcTransport({
    baseUrl: `${ca ? "https" : "http"}://127.0.0.1:${port}`,
    acceptCompression: [compressionGzip],
    sendCompression: call.compress ? compressionGzip : undefined,
    nodeOptions: secure || {},
  });
}

// The method of that path, or one that is called so.
function method_at(service, path) {
  const [, typeName, name] = path.split("/");
  const known = service.methods.find((method) => method.name === name) || service.methods[0];
  return { ...known, name, parent: { ...known.parent, typeName } };
}

// Replies let the next request go; `over` ends the wait of who would stay.
function turns() {
  const waiting = [];
  return { go: () => waiting.shift()?.(), wait: () => new Promise((resolve) => waiting.push(resolve)) };
}

async function* sending(messages, call, replied, over) {
  for (const [index, message] of messages.entries()) {
    if (call.in_turn && index) await replied.wait();
    yield message;
  }
  if (call.stay) await over;
  else if (call.in_turn) await replied.wait();
}

async function run(port, ca, service, call) {
  const method = method_at(service, call.method);
  const messages = call.requests.map((request) => fromBinary(method.input, Buffer.from(request, "base64")));
  const result = { code: 0, details: "", replies: [], initial: {}, trailing: {} };
  const abort = new AbortController();
  const over = new Promise((resolve) => abort.signal.addEventListener("abort", resolve));
  const transport = transport_to(port, ca, call);
  const options = [method, abort.signal, call.deadline_ms || 60000, call.metadata || {}];
  const reply = (message) => result.replies.push(base64(toBinary(method.output, message)));
  if (call.cancel_after === 0) setImmediate(() => abort.abort());
  try {
    if (method.methodKind === "unary") {
      const answer = await transport.unary(...options, messages[0]);
      reply(answer.message);
      Object.assign(result, { initial: Object.fromEntries(answer.header), trailing: Object.fromEntries(answer.trailer) });
      return result;
    }
    const replied = turns();
    const answer = await transport.stream(...options, sending(messages, call, replied, over));
    for await (const message of answer.message) {
      if (reply(message) === call.cancel_after) abort.abort();
      replied.go();
    }
    Object.assign(result, { initial: Object.fromEntries(answer.header), trailing: Object.fromEntries(answer.trailer) });
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    Object.assign(result, { code, details: rawMessage });
  }
  abort.abort();
  return result;
}

async function main() {
  const { schema, calls } = JSON.parse(fs.readFileSync(0));
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, Buffer.from(schema, "base64")));
  const service = registry.getService("grpc.testing.TestService");
  const [port, ca] = process.argv.slice(2);
  const results = {};
  for (const [name, call] of Object.entries(calls)) results[name] = await run(port, ca, service, call);
  fs.writeSync(1, JSON.stringify(results) + "\n");
  process.exit(0); // connections are kept otherwise
}

main();
