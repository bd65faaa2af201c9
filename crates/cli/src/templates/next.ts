import type { Up, Down, Validate } from "../../whimbrel";

export const description = "{description}";

// Pure functions: no I/O; `new Date()` is the run's instant, and a retry gives the same result.
export const up: Up = (doc) => ({ ...doc, example: false });

export const down: Down = ({ example, ...rest }) => rest;

export const validate: Validate = (doc) => typeof doc.example === "boolean";
