// The Anthropic SDK for Node in front of BASE_URL.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const expected = JSON.parse(process.env.EXPECTED);
const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: "unused", maxRetries: 0, timeout: 20000 });
const ask = (content, more = {}) => ({ model: "fake-model", max_tokens: 500, messages: [{ role: "user", content }], ...more });
const tools = [{ name: "get_weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];

export const checks = {
  async message() {
    assert.equal((await client.messages.create(ask("What is the capital of France? m1"))).content[0].text, expected.text);
  },
  async stream() {
    const final = await client.messages.stream(ask("What is the capital of France? m2")).finalMessage();
    assert.equal(final.content[0].text, expected.text);
    assert.equal(final.stop_reason, "end_turn");
  },
  async tools_stream() {
    const final = await client.messages.stream(ask("Weather by node?", { tools })).finalMessage();
    assert.deepEqual(final.content.filter((block) => block.type === "tool_use").map((block) => block.input), expected.calls);
  },
  async error() {
    await assert.rejects(client.messages.create(ask("I am limited.", { model: "limited-9" })), (error) => error instanceof Anthropic.RateLimitError && error.requestID?.length > 0);
  },
};
