(() => {
  const replace = (next) => {
    const link = document.activeElement && document.activeElement.getAttribute("href");
    document.querySelector("main").replaceWith(next);
    if (link) for (const a of next.querySelectorAll("a")) if (a.getAttribute("href") === link) a.focus({ preventScroll: true });
  };
  const refresh = async () => {
    if (!document.hidden && getSelection().type !== "Range") {
      try {
        const answer = await fetch(location.pathname, { cache: "no-store" });
        const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
        if (answer.ok && next) replace(next);
        document.body.classList.toggle("stale", !answer.ok);
      } catch {
        document.body.classList.add("stale");
      }
    }
    setTimeout(refresh, document.querySelector(".running") ? 2000 : 10000);
  };
  setTimeout(refresh, 2000);
})();
