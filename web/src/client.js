/** The page's end of `worker.js`: tasks that are done there, one after another. */

export class Client {
  /** @param {Worker} worker */
  constructor(worker) {
    this.worker = worker;
    this.waiting = new Map();
    this.number = 0;
    worker.onmessage = ({ data: { number, answer, error } }) => {
      const { resolve, reject } = this.waiting.get(number);
      this.waiting.delete(number);
      if (error === undefined) resolve(answer);
      else reject(new Error(error));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(event.message || "the thread that computes cannot be started");
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
  }

  /**
   * Does a task.
   *
   * @param {string} task a name in `worker.js`
   * @param {object} given what it takes
   * @param {Transferable[]} moved parts of that which are moved instead of copied
   */
  do(task, given = {}, moved = []) {
    const number = this.number++;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage({ number, task, ...given }, moved);
    });
  }
}
