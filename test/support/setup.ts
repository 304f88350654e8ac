import fc from 'fast-check';

/** Properties run the same cases each time; `XPSIM_SEED=7 npx vitest run …` tries others. */
fc.configureGlobal({ seed: Number(process.env.XPSIM_SEED ?? 42) });
