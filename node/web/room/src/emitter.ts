/** A small typed event emitter: an event's name maps to the one value its listeners receive. */
export class Emitter<Events extends object> {
  private readonly listeners = new Map<keyof Events, Set<(value: never) => void>>();

  /** Calls `listener` on each `event`. Returns the function that ends this. */
  on<Name extends keyof Events>(event: Name, listener: (value: Events[Name]) => void): () => void {
    let set = this.listeners.get(event);
    if (!set) {
      set = new Set();
      this.listeners.set(event, set);
    }
    set.add(listener);
    return () => set.delete(listener);
  }

  protected emit<Name extends keyof Events>(event: Name, value: Events[Name]): void {
    for (const listener of this.listeners.get(event) ?? []) (listener as (value: Events[Name]) => void)(value);
  }
}
