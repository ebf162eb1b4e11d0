// node draw.mjs --dashboards DIR --prometheus URL --out DIR [--interval SECONDS] NAME[?QUERY]...
// draws DIR/NAME.json as NAME.png with Prometheus' data, and prints what was found on each as a
// line of JSON. QUERY: range=6h and var-NAME=VALUE; as=OTHER_NAME; top=PIXELS, for the beginning alone.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import UPNG from 'upng-js';

const text = { type: 'string' };
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dashboards: text, prometheus: text, out: text,
    interval: { type: 'string', default: '60' }, chromium: { type: 'string', default: 'chromium' },
  },
});
const WIDTH = 1600;
const here = dirname(fileURLToPath(import.meta.url));
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
const PAGE = '<!doctype html><link rel=stylesheet href=/built/render.css>' +
  '<body style="margin:0;background:#111217"><div id=root></div><script type=module src=/built/render.js></script>';

/** The checks look at the charts that Grafana's components make. */
const chartsAreKept = {
  name: 'charts are kept',
  setup: (building) => building.onResolve({ filter: /^uplot$/ }, ({ importer }) =>
    importer === join(here, 'uplot.ts') ? undefined : { path: join(here, 'uplot.ts') }),
};

const built = await mkdtemp(join(tmpdir(), 'dashboards-'));
await build({
  entryPoints: [join(here, 'render.tsx')], outdir: built, bundle: true, format: 'esm', minify: true,
  splitting: true, jsx: 'automatic', logLevel: 'error', plugins: [chartsAreKept],
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.woff2': 'file', '.woff': 'file', '.svg': 'dataurl', '.ttf': 'file' },
});

const FOLDERS = { built, dashboards: options.dashboards, public: join(here, 'node_modules/@grafana/ui/dist/public') };
const server = createServer(async (request, response) => {
  const [, folder, ...rest] = new URL(request.url, 'http://localhost').pathname.split('/');
  response.setHeader('content-type', TYPES[extname(request.url)] ?? 'text/html');
  try {
    response.end(folder ? await readFile(join(FOLDERS[folder], normalize('/' + rest.join('/')))) : PAGE);
  } catch {
    response.statusCode = 404;
    response.end();
  }
});
await new Promise((listens) => server.listen(0, '127.0.0.1', listens));
await mkdir(options.out, { recursive: true });
const files = (await readdir(options.dashboards)).filter((file) => file.endsWith('.json')).sort();
const all = (await Promise.all(files.map((file) => readFile(join(options.dashboards, file), 'utf8')))).map((text) => JSON.parse(text));
const browser = await chromium.launch({ executablePath: options.chromium, args: ['--no-sandbox', '--disable-gpu'] });
try {
  for (const asked of positionals) console.log(JSON.stringify(await drawn(asked)));
} finally {
  await browser.close();
  server.close();
  await rm(built, { recursive: true });
}

async function drawn(asked) {
  const [name, query = ''] = asked.split('?');
  const parameters = new URLSearchParams(query);
  const picture = parameters.get('as') ?? name;
  parameters.set('dashboard', `/dashboards/${name}.json`);
  parameters.set('prometheus', options.prometheus);
  parameters.set('interval', options.interval);
  parameters.set('all', JSON.stringify(all.map(({ uid, title, tags }) => ({ uid, title, tags }))));
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 6000 } });
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(`http://127.0.0.1:${server.address().port}/?${parameters}`);
  await page.waitForFunction('window.found || window.failed', undefined, { timeout: 120_000 });
  const failed = await page.evaluate(() => window.failed);
  if (failed) {
    await page.close();
    return { name: picture, panels: [], errors: [...errors, failed] };
  }
  const height = await page.evaluate(() => document.getElementById('root').scrollHeight);
  await page.setViewportSize({ width: WIDTH, height });
  await page.evaluate(() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted))));
  const found = await page.evaluate(() => window.found());
  await writeFile(join(options.out, `${picture}.png`), small(await page.screenshot({
    clip: { x: 0, y: 0, width: WIDTH, height: Number(parameters.get('top') ?? height) },
  })));
  await page.close();
  return { name: picture, panels: found.panels, errors: [...errors, ...found.errors] };
}

/** With 256 colours, which nobody can tell from all of them here, a third of the size. */
function small(png) {
  const image = UPNG.decode(png);
  return Buffer.from(UPNG.encode(UPNG.toRGBA8(image), image.width, image.height, 256));
}
