// What the service says of what went wrong, and what tells it that a request is this page's own.

// An answer that is none: `errors` is [{pointer, detail}], `status` 0 where the service was not reached.
export class Problem extends Error {
  constructor(status, document = {}) {
    super(document.detail ?? `The service answered ${status}.`);
    this.name = "Problem";
    this.status = status;
    this.code = document.code ?? "";
    this.errors = document.errors ?? [];
    this.requestId = document.request_id ?? "";
    this.document = document;
  }
}

// Reads the problem document of an answer; one of 401 also asks whoever is there to sign in.
export async function problemOf(response) {
  const document = await response.json().catch(() => ({}));
  const problem = new Problem(response.status, document);
  if (response.status === 401) dispatchEvent(new CustomEvent("finebits:signed-out", { detail: problem }));
  return problem;
}

// What tells the service that a request is this page's own: no form of another site can send it.
export const OWN = { "X-Finebits-Page": "1" };
