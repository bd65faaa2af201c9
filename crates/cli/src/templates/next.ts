export const description = "{description}";

// Pure functions: no I/O; `new Date()` is the run's instant, and a retry gives the same result.
export const up = (doc) => ({ ...doc, example: false });

export const down = ({ example, ...rest }) => rest;

export const validate = (doc) => typeof doc.example === "boolean";
