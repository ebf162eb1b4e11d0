// node types.mjs DASHBOARD.json... checks dashboards against the types of @grafana/schema, as if
// each were written in TypeScript: a field that Grafana does not know, or of another type, is an
// error. Prints what is wrong, and where.
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const here = dirname(fileURLToPath(import.meta.url));
const OF_PANELS = {
  bargauge: 'BarGauge', gauge: 'Gauge', stat: 'Stat', 'state-timeline': 'StateTimeline', table: 'Table', timeseries: 'TimeSeries',
};

const lines = [
  "import type { Dashboard, Panel, RowPanel } from '@grafana/schema';",
  // JSON has an enumeration's text in the place of its member.
  'type Plain<T> = 0 extends 1 & T ? T : T extends string ? `${T}` : T extends number ? number',
  '  : T extends Array<infer U> ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;',
];
for (const [type, name] of Object.entries(OF_PANELS)) {
  const path = `@grafana/schema/dist/esm/raw/composable/${type.replace('-', '')}/panelcfg/x/${name}PanelCfg_types.gen`;
  lines.push(`import type * as ${name} from '${path}';`);
}
const places = new Map();
const check = (place, type, value) => {
  places.set(lines.length, place);
  lines.push(`export const _${lines.length}: ${type} = ${JSON.stringify(value)};`);
};
for (const path of process.argv.slice(2)) {
  const { panels, ...dashboard } = JSON.parse(await readFile(path, 'utf8'));
  // What Prometheus is asked, and how its answer is shown, is its data source's, which has no
  // published types.
  dashboard.annotations.list = dashboard.annotations.list.map(({ titleFormat, textFormat, target: { refId }, ...annotation }) =>
    ({ ...annotation, target: { refId } }));
  const name = basename(path, '.json');
  check(name, 'Plain<Omit<Dashboard, "panels">>', dashboard);
  for (const panel of panels.flatMap((one) => [one, ...(one.panels ?? [])])) {
    const place = `${name}, ${panel.title}`;
    if (panel.type === 'row') {
      check(place, 'Plain<RowPanel>', { ...panel, panels: [] });
      continue;
    }
    const of = OF_PANELS[panel.type];
    const { options, fieldConfig: { defaults: { custom = {}, ...defaults }, ...fieldConfig }, ...rest } = panel;
    check(place, 'Plain<Panel>', { ...rest, fieldConfig: { ...fieldConfig, defaults } });
    check(`${place}, options`, `Plain<Partial<${of}.Options>>`, options);
    const fields = ['stat', 'gauge', 'bargauge'].includes(panel.type) ? 'Record<string, never>' : `Plain<Partial<${of}.FieldConfig>>`;
    check(`${place}, custom`, fields, custom);
  }
}

const file = join(here, 'dashboards.ts');
const compiled = { strict: true, noEmit: true, skipLibCheck: true, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler };
const host = ts.createCompilerHost(compiled);
const { getSourceFile, fileExists } = host;
host.fileExists = (path) => path === file || fileExists(path);
host.getSourceFile = (path, ...rest) => path === file
  ? ts.createSourceFile(path, lines.join('\n'), ts.ScriptTarget.Latest) : getSourceFile(path, ...rest);
const program = ts.createProgram([file], compiled, host);
for (const found of ts.getPreEmitDiagnostics(program)) {
  const line = found.file && found.file.getLineAndCharacterOfPosition(found.start).line;
  console.log(`${places.get(line) ?? 'the check itself'}: ${ts.flattenDiagnosticMessageText(found.messageText, ' ')}`);
  process.exitCode = 1;
}
