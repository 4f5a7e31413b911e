// One decision: what it was taken from, and whether it comes out the same again.

import { get, post } from "./api.js";
import { byId, element, number, put, table, when } from "./elements.js";

const dialog = byId("decision");
let shown = null;

export async function openDecision(id) {
  const told = await get(`decisions/${id}`);
  shown = id;
  const { decision } = told;
  byId("decision-title").textContent = `Decision ${id}: ${decision.image} to ${decision.client_id}`;
  facts({
    "handed out": when(decision.created_at),
    strategy: decision.strategy,
    "plan, place": `${decision.plan}, ${decision.position + 1} of ${told.total}`,
    planned: when(told.planned_at),
    model: decision.model ?? "none: this strategy needs no scores",
    score: told.score,
    seed: `${told.seed}`,
    settings: `version ${told.settings_version}`,
    quotas: told.quota_batch ? `batches of ${told.quota_batch} follow the weights` : "none: plain utility",
    "audit slots": told.audit_every ? `one place of ${told.audit_every} is drawn at random` : "none",
  });
  put("decision-weights", table("Weight by subgroup, mean 1", [["subgroup", "word"], ["weight", "number"]],
    told.weights.map((w) => [w.subgroup, number(w.weight)])));
  put("candidates", table(`${told.candidates.length} of ${told.total} candidates; the one handed out stands out`,
    [["place", "word"], ["scan", "word"], ["score, nats", "number"], ["weight", "number"], ["utility", "number"], ["reason", "word"]],
    told.candidates.map((c) => [`${c.position + 1}`, c.image, number(c.score, 4), number(c.weight), number(c.utility, 4), c.reason || "rank"]),
    { chosen: (place) => told.candidates[place].chosen }));
  say("", "");
  dialog.showModal();
  byId("candidates").querySelector("tr.chosen")?.scrollIntoView({ block: "nearest" });
}

function facts(values) {
  byId("decision-facts").replaceChildren(...Object.entries(values).flatMap(([name, value]) =>
    [element("dt", { text: name }), element("dd", { text: value })]));
}

function say(text, className) {
  byId("replayed").textContent = text;
  byId("replayed").className = className;
}

async function replay() {
  say("Replaying…", "");
  try {
    const told = await post(`decisions/${shown}/replay`);
    if (told.same) say(`Same: all of plan ${told.plan} came out as stored, ${told.replayed} at place ${told.position + 1}.`, "same");
    else say(`Not the same: place ${told.position + 1} of the rebuilt plan is ${told.replayed}.`, "other");
  } catch (error) {
    say(error.message, "other");
  }
}

byId("replay").addEventListener("click", replay);
byId("close").addEventListener("click", () => dialog.close());
