// Asks the broker whether the page's process still lives; says so in place of the page if not.
(() => {
  "use strict";
  const PERIOD_MS = 3000;
  const lost = document.getElementById("fr-lost").innerHTML;
  let missed = 0;
  const timer = setInterval(async () => {
    try {
      const answer = await fetch("alive", { cache: "no-store" });
      missed = answer.status === 410 ? missed + 2 : 0;
    } catch { missed += 1; }
    if (missed < 2) return;
    clearInterval(timer);
    if (!document.querySelector(".fr-lost")) document.body.innerHTML = lost;
  }, PERIOD_MS);
})();
