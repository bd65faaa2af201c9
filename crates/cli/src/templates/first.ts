import type { Validate } from "../../whimbrel";

// Version 1 is what the app writes today: there is nothing to do.
export const description = "{description}";

export const validate: Validate = (doc) => typeof doc === "object";
