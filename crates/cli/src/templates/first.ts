// Version 1 is what the app writes today: there is nothing to do.
export const description = "{description}";

export const validate = (doc) => typeof doc === "object";
