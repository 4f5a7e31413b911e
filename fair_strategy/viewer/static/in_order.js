// trame sends a trigger at once, but holds changed values back while any call is on its way: what
// was typed would arrive after the button that is meant to use it. Here they go in order.
(() => {
  "use strict";
  const send = async (trame) => {
    const { state, client } = trame;
    const changed = [...state.dirtyKeys];
    if (!changed.length || !client.isConnected()) return;
    state.dirtyKeys.clear();
    const values = changed.map((key) => ({ key, value: state.get(key) }));
    try {
      await client.getRemote().Trame.updateState(values);
    } catch (error) {
      changed.forEach((key) => state.dirtyKeys.add(key));
      throw error;
    }
  };

  const keepOrder = (trame) => {
    const trigger = trame.trigger;
    let sent = Promise.resolve();
    trame.trigger = (...call) => {
      sent = sent.catch(() => {}).then(() => send(trame));
      return sent.then(() => trigger(...call));
    };
  };
  const wait = () => (window.trame?.state?.dirtyKeys ? keepOrder(window.trame) : setTimeout(wait, 10));
  wait();
})();
