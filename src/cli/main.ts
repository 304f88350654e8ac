/** What bin/xpsim starts. */
import { main } from './cli.js';

// Whoever read our output has seen enough (`xpsim … | head`): that is no failure.
process.stdout.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code === 'EPIPE') process.exit(0);
  process.stderr.write(`xpsim: standard output: ${e.message}; free some space or choose another place\n`);
  process.exit(3);
});

// Nobody is left to tell.
process.stderr.on('error', () => {});

process.exitCode = await main(process.argv);
