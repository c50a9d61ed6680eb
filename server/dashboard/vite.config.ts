// Three files with fixed names: the collector embeds them (embedded_page.cc), and
// the same source gives the same bytes on every machine.
import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    target: 'es2020',
    outDir: 'dist',
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rollupOptions: {
      output: { entryFileNames: 'page.js', assetFileNames: 'page.[ext]', inlineDynamicImports: true },
    },
  },
  // For work on the page: `npx vite` beside a collector.
  server: { proxy: { '/api': { target: process.env.GRADTAP_HTTP ?? 'http://127.0.0.1:7318', changeOrigin: true } } },
});
