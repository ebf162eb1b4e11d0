// Draws a dashboard's JSON with Grafana's own components (Apache-2.0), from a Prometheus.
//
// Grafana's are the charts, values, gauges, tables, panels' frames, overrides and transformations.
// What Grafana's server and its panel plugins (AGPL) do is ours: answers as data frames, variables,
// repeated panels, the grid. State timelines and annotations are not in the components, so that
// they are not drawn.
import React, { useEffect, useMemo, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { lastValueFrom } from 'rxjs';
import {
  applyFieldOverrides, createTheme, DataFrame, dateTime, EventBusSrv, FieldConfigOptionsRegistry,
  FieldType, getFieldDisplayValues, getDisplayValueAlignmentFactors, identityOverrideProcessor,
  displayNameOverrideProcessor, standardTransformers, standardTransformersRegistry, cacheFieldDisplayNames,
  ThemeContext, transformDataFrame, VizOrientation, standardFieldConfigEditorRegistry,
} from '@grafana/data';
import {
  BarGauge, BigValue, Gauge, GlobalStyles, PanelChrome, PanelContextProvider, TimeSeries,
  VizRepeater,
} from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { initPluginTranslations } from '@grafana/i18n';
import jquery from 'jquery';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { charts } from './uplot';

(window as any).__grafana_public_path__ = '/public/';
const theme = createTheme({ colors: { mode: 'dark' } });
const WIDTH = 1600 - 32, GAP = 8, CELL = 30;
const asked = new URLSearchParams(location.search);
const TO = Math.floor(Date.now() / 1000);
/** Seconds between two scrapes. */
const SCRAPES = Number(asked.get('interval'));
const errors: string[] = [];

// --- what Grafana's core registers at its start -------------------------------------------------
const byId = new Map(Object.values(standardTransformers).map((t: any) => [t.id, t]));
standardTransformersRegistry.setInit(() =>
  [...byId.values()].map((transformation: any) => ({
    id: transformation.id, name: transformation.name, transformation, editor: () => null,
    imageDark: '', imageLight: '',
  }))
);
const property = (path: string, isCustom = false, process: any = identityOverrideProcessor) => ({
  id: isCustom ? `custom.${path}` : path, path, name: path, isCustom, process,
  editor: () => null, override: () => null, shouldApply: () => true, settings: {},
}) as any;
const STANDARD = ['unit', 'min', 'max', 'decimals', 'noValue', 'thresholds', 'mappings', 'links',
  'color', 'filterable', 'fieldMinMax', 'actions'];
const CUSTOM = ['drawStyle', 'lineInterpolation', 'lineWidth', 'fillOpacity', 'gradientMode',
  'lineStyle', 'spanNulls', 'showPoints', 'pointSize', 'stacking', 'axisPlacement', 'axisLabel',
  'axisSoftMin', 'axisSoftMax', 'scaleDistribution', 'hideFrom', 'thresholdsStyle', 'barAlignment',
  'fillBelowTo', 'width', 'align', 'cellOptions', 'displayMode', 'filterable', 'hidden', 'inspect',
  'axisColorMode', 'axisBorderShow', 'axisCenteredZero', 'axisGridShow', 'minWidth', 'transform'];
const registry = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map((path) => property(path)),
  property('displayName', false, displayNameOverrideProcessor),
  ...CUSTOM.map((path) => property(path, true)),
]);
standardFieldConfigEditorRegistry.setInit(() => [...STANDARD, 'displayName'].map((path) => property(path)));

// Gauge asks jQuery's flot for an arc, which Grafana loads from elsewhere.
(jquery as any).plot = (element: HTMLElement, [{ data: [[, value]] }]: any, options: any) => {
  const { gauge, threshold, value: text } = options.series.gauges;
  const w = element.clientWidth, h = element.clientHeight;
  const outer = Math.min(w / 2, h / 1.52) - 2, x = w / 2, y = outer + 2;
  const at = (v: number) => (-210 + 240 * Math.min(1, Math.max(0, (v - gauge.min) / (gauge.max - gauge.min)))) * Math.PI / 180;
  const arc = (a: number, b: number, r: number, width: number, color: string) => {
    const p = (t: number) => `${x + (r - width / 2) * Math.cos(t)} ${y + (r - width / 2) * Math.sin(t)}`;
    return `<path d="M ${p(a)} A ${r - width / 2} ${r - width / 2} 0 ${b - a > Math.PI ? 1 : 0} 1 ${p(b)}" fill="none" stroke="${color}" stroke-width="${width}"/>`;
  };
  const marks = threshold.show ? threshold.width : 0, inner = outer - marks - (marks ? 1 : 0);
  let svg = arc(at(gauge.min), at(gauge.max), inner, gauge.width, gauge.background.color);
  if (Number.isFinite(value)) svg += arc(at(gauge.min), at(value), inner, gauge.width, text.color);
  if (marks) threshold.values.forEach((one: any, n: number) => {
    const from = n ? threshold.values[n - 1].value : gauge.min;
    svg += arc(at(from), at(one.value), outer, marks, one.color);
  });
  svg += `<text x="${x}" y="${y + text.font.size * 0.35}" text-anchor="middle" fill="${text.color}" font-weight="500" font-family="${text.font.family.replaceAll('"', "'")}" font-size="${text.font.size}">${text.formatter()}</text>`;
  element.innerHTML = `<svg width="${w}" height="${h}">${svg}</svg>`;
};

// --- variables ----------------------------------------------------------------------------------
type Values = Record<string, { value: string | string[]; text: string; all?: string; multi: boolean }>;
const escapeRegex = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\\\$&');

function interpolator(values: Values, scoped: Record<string, string> = {}) {
  return (text: any, extra?: any, format?: any): string => {
    if (typeof text !== 'string') return text;
    return text.replace(/\$(\w+)|\$\{(\w+)(?:\.[^:}]+)?(?::([^}]+))?\}|\[\[(\w+)\]\]/g,
      (whole, a, b, how, c) => {
        const name = a ?? b ?? c;
        if (name in scoped) return scoped[name];
        const v = extra?.[name];
        if (v) return String(v.value?.text ?? v.value);
        const variable = values[name];
        if (!variable) return whole;
        if (how === 'queryparam') return `var-${name}=${encodeURIComponent(String(variable.value))}`;
        if (format === 'title' || how === 'text') return variable.text;
        if (variable.all !== undefined) return variable.all;
        if (!variable.multi) return String(variable.value);
        const list = ([] as string[]).concat(variable.value).map(escapeRegex);
        return list.length === 1 ? list[0] : `(${list.join('|')})`;
      });
  };
}

async function get(path: string, parameters: Record<string, string>) {
  const answer = await (await fetch(`${asked.get('prometheus')}${path}?${new URLSearchParams(parameters)}`)).json();
  if (answer.status !== 'success') throw new Error(`${answer.error}: ${parameters.query ?? path}`);
  return answer.data;
}

/** The values of a variable: those of a label, or what its pattern finds in an answer's series. */
async function offered(variable: any, fill: (text: string) => string, from: number): Promise<string[]> {
  const answer = /^query_result\((.+)\)$/s.exec(variable.query);
  if (answer) {
    const query = fill(answer[1]).replaceAll('$__range', `${TO - from}s`);
    const { result } = await get('/api/v1/query', { query, time: String(TO) });
    const pattern = new RegExp(variable.regex.slice(1, -1));
    return result.flatMap(({ metric: { __name__ = '', ...labels } }: any) => {
      const shown = Object.entries(labels).map(([name, value]) => `${name}="${value}"`).join(',');
      return pattern.exec(`${__name__}{${shown}}`)?.[1] ?? [];
    });
  }
  const [, selector, label] = /^label_values\((?:(.+), *)?(\w+)\)$/s.exec(variable.query)!;
  return get(`/api/v1/label/${label}/values`, {
    ...(selector ? { 'match[]': fill(selector) } : {}), start: String(from), end: String(TO),
  });
}

async function variablesOf(dashboard: any, from: number): Promise<Values> {
  const values: Values = { datasource: { value: 'prometheus', text: 'Prometheus', multi: false } };
  for (const v of dashboard.templating.list) {
    if (v.type === 'custom' || v.type === 'textbox')
      values[v.name] = { value: v.current.value, text: v.current.text, multi: false };
    if (v.type !== 'query') continue;
    const fill = interpolator(values);
    const found = (await offered(v, fill, from)).sort();
    const given = asked.getAll(`var-${v.name}`);
    if (given.length) {
      values[v.name] = { value: v.multi ? given : given[0], text: given.join(' + '), multi: v.multi };
    } else if (v.includeAll) {
      values[v.name] = { value: found, text: 'All', all: v.allValue, multi: true };
    } else {
      values[v.name] = { value: found[0] ?? '', text: found[0] ?? '', multi: false };
    }
  }
  return values;
}

// --- queries ------------------------------------------------------------------------------------
const seriesName = (target: any, metric: Record<string, string>, expr: string) => {
  if (target.legendFormat && target.legendFormat !== '__auto')
    return target.legendFormat.replace(/\{\{\s*(.+?)\s*\}\}/g, (_: string, l: string) => metric[l] ?? '');
  const labels = Object.entries(metric).filter(([k]) => k !== '__name__').map(([k, v]) => `${k}="${v}"`);
  return labels.length ? `${metric.__name__ ?? ''}{${labels.join(', ')}}` : metric.__name__ ?? expr;
};
const number = (text: string) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

function stepOf(range: number, points: number) {
  const wanted = Math.max(range / points, SCRAPES);
  const nice = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600];
  return nice.find((n) => n >= wanted * 0.75) ?? 86400;
}

async function framesOf(panel: any, fill: (t: string) => string, from: number, width: number): Promise<DataFrame[]> {
  const frames: DataFrame[] = [];
  const tables = panel.targets.filter((t: any) => t.format === 'table').length;
  const step = stepOf(TO - from, panel.maxDataPoints ?? width);
  for (const target of panel.targets) {
    const expr = fill(target.expr)
      .replaceAll('$__rate_interval', `${Math.max(step + SCRAPES, 4 * SCRAPES)}s`)
      .replaceAll('$__range', `${TO - from}s`).replaceAll('$__interval', `${step}s`);
    const data = target.instant
      ? await get('/api/v1/query', { query: expr, time: String(TO) })
      : await get('/api/v1/query_range', { query: expr, step: String(step),
          start: String(Math.floor(from / step) * step), end: String(Math.ceil(TO / step) * step) });
    const samples = (one: any): Array<[number, string]> => one.values ?? [one.value];
    if (target.format === 'table') {
      const labels = [...new Set<string>(data.result.flatMap((s: any) => Object.keys(s.metric)))].sort();
      const rows = data.result.flatMap((s: any) => samples(s).map((p) => ({ m: s.metric, p })));
      frames.push({
        refId: target.refId, length: rows.length,
        fields: rows.length === 0 ? [] : [
          { name: 'Time', type: FieldType.time, config: {}, values: rows.map((r: any) => r.p[0] * 1000) },
          ...labels.map((l) => ({ name: l, type: FieldType.string, config: { filterable: true }, values: rows.map((r: any) => r.m[l] ?? '') })),
          { name: tables > 1 ? `Value #${target.refId}` : 'Value', type: FieldType.number, config: {}, values: rows.map((r: any) => number(r.p[1])) },
        ],
      } as DataFrame);
      continue;
    }
    for (const one of data.result) {
      const points = samples(one);
      const { __name__, ...labels } = one.metric;
      frames.push({
        refId: target.refId, length: points.length,
        fields: [
          { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: points.map((p) => p[0] * 1000) },
          { name: 'Value', type: FieldType.number, labels, values: points.map((p) => number(p[1])),
            config: { displayNameFromDS: seriesName(target, one.metric, expr) } },
        ],
      } as DataFrame);
    }
  }
  return frames;
}

const Nothing = ({ text }: { text: string }) =>
  <div style={{ padding: 20, color: '#888', textAlign: 'center' }}>{text}</div>;

// --- panels -------------------------------------------------------------------------------------
function draw(panel: any, frames: DataFrame[], w: number, h: number, fill: any, from: number) {
  const o = panel.options ?? {};
  const defaults = { orientation: VizOrientation.Auto, ...o };
  const repeated = (props: any, render: (r: any) => React.ReactElement) => (
    <VizRepeater width={w} height={h} source={frames} renderCounter={0} itemSpacing={8} orientation={defaults.orientation}
      getAlignmentFactors={getDisplayValueAlignmentFactors as any} renderValue={render} {...props}
      getValues={() => getFieldDisplayValues({
        fieldConfig: panel.fieldConfig, reduceOptions: o.reduceOptions, replaceVariables: fill, theme,
        data: frames, sparkline: panel.type === 'stat' && o.graphMode !== 'none', timeZone: 'utc',
      })} />
  );
  switch (panel.type) {
    case 'timeseries': {
      if (!frames.length) return <Nothing text={panel.fieldConfig.defaults.noValue} />;
      const range = { from: dateTime(from * 1000), to: dateTime(TO * 1000), raw: { from: 'now-1h', to: 'now' } };
      return <TimeSeries frames={frames} width={w} height={h} timeRange={range as any} timeZone="utc"
        legend={{ showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [], ...o.legend }} />;
    }
    case 'stat':
      return repeated({ autoGrid: true }, ({ value, width, height, alignmentFactors, count }) => (
        <BigValue value={value.display} count={count} sparkline={value.sparkline} colorMode={o.colorMode ?? 'value'}
          graphMode={o.graphMode ?? 'area'} justifyMode={o.justifyMode ?? 'auto'} textMode={o.textMode ?? 'auto'}
          alignmentFactors={alignmentFactors} text={o.text} width={width} height={height} theme={theme} />));
    case 'gauge':
      return repeated({ autoGrid: true, minVizWidth: 75, minVizHeight: 75 }, ({ value, width, height, count }) => (
        <Gauge value={count === 1 ? { ...value.display, title: undefined } : value.display} width={width} height={height} field={value.field} theme={theme} text={o.text}
          showThresholdLabels={o.showThresholdLabels ?? false} showThresholdMarkers={o.showThresholdMarkers ?? true} />));
    case 'bargauge':
      return repeated({ minVizWidth: 8, minVizHeight: 16, maxVizHeight: 300, itemSpacing: 8 }, ({ value, width, height, orientation, alignmentFactors }) => (
        <BarGauge value={value.display} width={width} height={height} orientation={orientation} field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex!)} theme={theme} itemSpacing={8} lcdCellWidth={12}
          displayMode={o.displayMode ?? 'gradient'} showUnfilled={o.showUnfilled} valueDisplayMode={o.valueMode}
          alignmentFactors={alignmentFactors} />));
    case 'table':
      if (!frames.length || !frames[0].fields.length) return <Nothing text={panel.fieldConfig.defaults.noValue} />;
      return <TableNG data={frames[0]} width={w} height={h} noHeader={o.showHeader === false} initialSortBy={o.sortBy} fieldConfig={panel.fieldConfig}
        cellHeight={o.cellHeight ?? 'sm'} enableVirtualization timeRange={{ from: dateTime(from * 1000), to: dateTime(TO * 1000), raw: {} } as any} />;
    default:
      return <Nothing text={`${frames.length} rows of a ${panel.type.replace('-', ' ')}, which this picture can't show`} />;
  }
}

type Drawn = { element: HTMLElement; panel: any; title: string; frames: DataFrame[] };
const drawn = new Map<string, Drawn>();

function Panel({ panel, values, from, onReady }: any) {
  const { w, h } = panel.gridPos;
  const width = (WIDTH + GAP) / 24 * w - GAP, height = h * (CELL + GAP) - GAP;
  const fill = useMemo(() => interpolator(values, panel.scoped), []);
  const [state, setState] = useState<any>();
  useEffect(() => {
    (async () => {
      try {
        let frames = await framesOf(panel, fill, from, Math.floor(width));
        if (panel.transformations?.length)
          frames = await lastValueFrom(transformDataFrame(panel.transformations, frames, { interpolate: fill } as any));
        frames = applyFieldOverrides({ data: frames, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry,
          replaceVariables: fill as any, theme, timeZone: 'utc' });
        cacheFieldDisplayNames(frames);
        setState({ frames });
      } catch (error) {
        errors.push(`${panel.title}: ${error}`);
        setState({ error: String(error) });
      }
      onReady();
    })();
  }, []);
  const title = interpolator(values, panel.scoped)(panel.title, undefined, 'title');
  return (
    <div ref={(element) => { if (element) drawn.set(panel.key, { element, panel, title, frames: state?.frames ?? [] }); }}
      style={{ position: 'absolute', left: (WIDTH + GAP) / 24 * panel.gridPos.x, top: panel.gridPos.y * (CELL + GAP), width, height }}>
      <PanelChrome title={title} description={panel.description} width={width} height={height} statusMessage={state?.error}>
        {(w: number, h: number) => (state?.frames ? draw(panel, state.frames, w, h, fill, from) : <>{state?.error}</>)}
      </PanelChrome>
    </div>
  );
}

/** Panels, those of closed rows too, with repeated ones unrolled, and all below moved down, as
    Grafana lays them out. */
function laidOut(dashboard: any, values: Values) {
  const placed: any[] = [];
  let moved = 0;
  const every = dashboard.panels.flatMap((panel: any) => [panel, ...(panel.panels ?? [])]);
  for (const panel of every.sort((a: any, b: any) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x)) {
    const at = { ...panel.gridPos, y: panel.gridPos.y + moved };
    if (!panel.repeat) { placed.push({ ...panel, gridPos: at, key: panel.id }); continue; }
    const each = ([] as string[]).concat(values[panel.repeat].value);
    const across = Math.min(panel.maxPerRow ?? 4, each.length) || 1;
    const wide = Math.floor(24 / across);
    each.forEach((value, n) => placed.push({
      ...panel, key: `${panel.id}-${value}`, scoped: { [panel.repeat]: value },
      gridPos: { h: at.h, w: wide, x: (n % across) * wide, y: at.y + Math.floor(n / across) * at.h },
    }));
    moved += (Math.ceil(each.length / across) - 1) * at.h;
  }
  return placed;
}

/** What links are shown: each dashboard that has a tag of theirs, or a menu of these. */
function linked(dashboard: any): string[] {
  const others = JSON.parse(asked.get('all')!).filter((one: any) => one.uid !== dashboard.uid);
  return (dashboard.links ?? []).flatMap((link: any) => link.type !== 'dashboards' || link.asDropdown
    ? [`${link.title}${link.asDropdown ? ' ▾' : ''}`]
    : others.filter((one: any) => link.tags.every((tag: string) => one.tags.includes(tag))).map((one: any) => one.title));
}

function Dashboard({ dashboard, values, from }: any) {
  const panels = useMemo(() => laidOut(dashboard, values), []);
  const left = useMemo(() => ({ count: panels.filter((p) => p.type !== 'row').length }), []);
  const ready = () => { left.count -= 1; if (left.count === 0) setTimeout(() => Object.assign(window, { found }), 1500); };
  const height = Math.max(...panels.map((p) => p.gridPos.y + p.gridPos.h)) * (CELL + GAP);
  const pill = { background: '#181b1f', border: '1px solid #2f3338', padding: '5px 10px', borderRadius: 3, fontSize: 13 };
  return (
    <div style={{ padding: 16, fontFamily: theme.typography.fontFamily, color: theme.colors.text.primary }}>
      <div style={{ fontSize: 15, marginBottom: 10, color: theme.colors.text.secondary }}>Dashboards › vGPU › <span style={{ color: theme.colors.text.primary }}>{dashboard.title}</span>
        <span style={{ float: 'right', ...pill }}>Last {asked.get('range') ?? dashboard.time.from.replace('now-', '')} · UTC · ↻ {dashboard.refresh}</span></div>
      <div style={{ display: 'flex', flexWrap: 'wrap', gap: 8, marginBottom: 14 }}>
        {dashboard.templating.list.filter((v: any) => v.hide !== 2).map((v: any) => (
          <span key={v.name} style={pill}><span style={{ color: theme.colors.text.secondary, marginRight: 8 }}>{v.label ?? v.name}</span>{values[v.name]?.text}</span>
        ))}
        <span style={{ flex: 1 }} />
        {linked(dashboard).map((title) => <span key={title} style={pill}>{title}</span>)}
      </div>
      <PanelContextProvider value={{ eventsScope: '__global', eventBus: new EventBusSrv() } as any}>
        <div style={{ position: 'relative', width: WIDTH, height }}>
          {panels.map((panel) => panel.type === 'row'
            ? <div key={panel.key} style={{ position: 'absolute', top: panel.gridPos.y * (CELL + GAP) + 6, fontSize: 15, fontWeight: 500 }}>⌄ {interpolator(values, panel.scoped)(panel.title, undefined, 'title')}</div>
            : <Panel key={panel.key} panel={panel} values={values} from={from} onReady={ready} />)}
        </div>
      </PanelContextProvider>
    </div>
  );
}

// --- what is wrong with what was drawn ----------------------------------------------------------
const last = (frame: DataFrame) => [...frame.fields[1].values].reverse().find((v) => v !== null && !Number.isNaN(v)) as number;

function wrong({ element, panel, frames }: Drawn): string[] {
  const problems: string[] = [];
  const cut = [...element.querySelectorAll<HTMLElement>('h2, [role=gridcell], [role=columnheader] *')]
    .filter((part) => part.scrollWidth > part.clientWidth + 1 && part.clientWidth && getComputedStyle(part).overflow !== 'visible');
  for (const part of cut) problems.push(`cut: ${part.textContent}`);
  const outside = (part: Element) => {
    const [inner, outer] = [part, element].map((one) => one.getBoundingClientRect());
    return inner.bottom > outer.bottom || inner.right > outer.right;
  };
  if (panel.type === 'table') {
    const grid = element.querySelector('[role=grid]');
    if (grid && grid.scrollWidth > grid.clientWidth) problems.push(`columns need ${grid.scrollWidth} of ${grid.clientWidth} pixels`);
  }
  if (panel.type !== 'timeseries' || !frames.length) return problems;
  const rows = element.querySelectorAll('table tbody tr');
  if (panel.options.legend.displayMode === 'table') {
    const ends = frames.map(last).filter((value) => value !== undefined);
    const largest = frames.filter((frame) => last(frame) === Math.max(...ends)).map((frame) => frame.fields[1].state?.displayName);
    if (!rows.length || outside(rows[0])) problems.push('the legend shows no row');
    else if (!largest.some((name) => rows[0].textContent!.startsWith(name!)))
      problems.push(`the legend begins with ${rows[0].textContent}, the largest is ${largest}`);
  }
  const { min, max, unit } = panel.fieldConfig.defaults;
  for (const chart of charts.filter((one) => element.contains(one.root))) {
    for (const [key, scale] of Object.entries(chart.scales)) {
      if (key === 'x') continue;
      const seen = (at: number) => chart.data[0][at] >= chart.scales.x.min! && chart.data[0][at] <= chart.scales.x.max!;
      const values = chart.series.flatMap((one, n) => one.scale === key && one.show ? [...chart.data[n]] : [])
        .filter((v, n) => v != null && seen(n % chart.data[0].length)) as number[];
      if (max === undefined && Math.max(...values) > scale.max!) problems.push(`the axis ends at ${scale.max}, below ${Math.max(...values)}`);
      if (scale.min! < min) problems.push(`the axis begins at ${scale.min}`);
      if (unit === 'percentunit' && scale.max! > 2) problems.push(`the axis of a share reaches ${scale.max}`);
    }
  }
  return problems;
}

/** Asked from outside, once everything is drawn. */
function found() {
  const panels = [...drawn.values()].map((one) => ({
    title: one.panel.title, shown: one.title, type: one.panel.type, problems: wrong(one),
    rows: one.panel.type === 'table' ? one.frames[0]?.length ?? 0 : one.frames.length,
  }));
  return { errors, panels };
}

const UNITS: any = { s: 1, m: 60, h: 3600, d: 86400 };
(async () => {
  await initPluginTranslations('grafana');
  const dashboard = await (await fetch(asked.get('dashboard')!)).json();
  const range = /(\d+)([smhd])$/.exec(asked.get('range') ?? dashboard.time.from)!;
  const from = TO - Number(range[1]) * UNITS[range[2]];
  const values = await variablesOf(dashboard, from);
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}><GlobalStyles /><Dashboard dashboard={dashboard} values={values} from={from} /></ThemeContext.Provider>);
})().catch((error) => Object.assign(window, { failed: String(error) }));
