export const commandRows = [];
