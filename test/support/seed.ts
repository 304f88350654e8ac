/** The seed of runs that do not go through fast-check's global settings; `XPSIM_SEED=7` tries another. */
export const SEED = Number(process.env.XPSIM_SEED ?? 42);
