import { defineConfig } from 'vitest/config';
import { edition } from './tools/vite_edition.mjs';

/** Most tests run on the synchronous edition; what must hold in both runs twice, races on the generators alone. */
export default defineConfig({
  test: {
    pool: 'threads',
    maxWorkers: 2,
    isolate: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    setupFiles: ['test/support/setup.ts'],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['text-summary', 'json-summary'],
      reportsDirectory: 'coverage',
    },
    projects: [
      {
        extends: true,
        plugins: [edition('sync')],
        test: {
          name: 'sync',
          include: ['test/**/*.test.ts'],
          exclude: ['test/schedule/**'],
        },
      },
      {
        extends: true,
        plugins: [edition('co')],
        test: {
          name: 'co',
          include: ['test/schedule/**/*.test.ts', 'test/unit/**/*.test.ts', 'test/conformance/**/*.test.ts'],
        },
      },
    ],
  },
});
