// uPlot as Grafana's components import it, which keeps the charts that they make.
import uPlot from 'uplot';

export const charts: uPlot[] = [];

function Kept(...given: ConstructorParameters<typeof uPlot>) {
  const chart = new uPlot(...given);
  charts.push(chart);
  return chart;
}

export default Object.assign(Kept, uPlot);
