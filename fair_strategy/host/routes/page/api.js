// The server's answers. All addresses are relative: the page may stand behind a proxy.

async function answer(path, options) {
  let reply;
  try {
    reply = await fetch(`api/${path}`, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("The server does not answer. Is it still running? Reload tries again.");
  }
  if (reply.status === 401) throw new Error("The server was started anew: open the address that it printed this time.");
  const told = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(typeof told.detail === "string" ? told.detail : `The server answered ${reply.status}.`);
  return told;
}

export const get = (path) => answer(path);

export const post = (path, body = {}) =>
  answer(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
