// What a dashboard of ours may hold: Grafana's own published types, put together for the kinds of panels that we use.
// `make` beside this file makes grafana.json of it.
import type * as dashboard from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type * as common from '@grafana/schema/dist/types/common/common.gen';
import type * as bargauge from '@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen';
import type * as heatmap from '@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen';
import type * as stat from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as statetimeline from '@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen';
import type * as table from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as text from '@grafana/schema/dist/types/raw/composable/text/panelcfg/x/types.gen';
import type * as timeseries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type { Prometheus } from '@grafana/prometheus/dist/types/dataquery';
import type { OrganizeFieldsTransformerOptions } from '@grafana/data/dist/types/transformations/transformers/organize';
import type { MergeTransformerOptions } from '@grafana/data/dist/types/transformations/transformers/merge';

interface Link { title: string; url: string; targetBlank?: boolean }

type Property =
  | { id: 'unit'; value: string }
  | { id: 'displayName'; value: string }
  | { id: 'decimals' | 'min' | 'max'; value: number }
  | { id: 'color'; value: dashboard.FieldColor }
  | { id: 'mappings'; value: dashboard.ValueMapping[] }
  | { id: 'thresholds'; value: dashboard.ThresholdsConfig }
  | { id: 'links'; value: Link[] }
  | { id: 'custom.lineStyle'; value: common.LineStyle }
  | { id: 'custom.lineWidth' | 'custom.fillOpacity' | 'custom.width'; value: number }
  | { id: 'custom.transform'; value: common.GraphTransform }
  | { id: 'custom.stacking'; value: common.StackingConfig }
  | { id: 'custom.axisPlacement'; value: common.AxisPlacement }
  | { id: 'custom.hideFrom'; value: common.HideSeriesConfig }
  | { id: 'custom.cellOptions'; value: common.TableCellOptions }
  | { id: 'custom.align'; value: common.FieldTextAlignment };

type Transformation =
  | { id: 'merge'; options: MergeTransformerOptions }
  | { id: 'organize'; options: Partial<OrganizeFieldsTransformerOptions> };

interface FieldConfigOf<C> {
  defaults: Omit<dashboard.FieldConfig, 'custom' | 'links' | 'actions'> & { custom?: C; links?: Link[] };
  overrides: Array<{
    matcher: { id: 'byName' | 'byRegexp' | 'byFrameRefID'; options: string };
    properties: Property[];
  }>;
}

type Query = Omit<Prometheus, 'datasource' | 'scopes' | 'adhocFilters'> & { datasource: dashboard.DataSourceRef };

type Common = Pick<dashboard.Panel, 'title' | 'description' | 'interval' | 'maxDataPoints' | 'timeFrom' | 'pluginVersion'>
  & Required<Pick<dashboard.Panel, 'id' | 'gridPos'>> & { links?: dashboard.DashboardLink[] };

interface PanelOf<T extends string, O, C> extends Common {
  type: T;
  datasource: dashboard.DataSourceRef;
  targets: Query[];
  options: O;
  fieldConfig: FieldConfigOf<C>;
  transformations?: Transformation[];
}

interface TextPanel extends Common { type: 'text'; options: text.Options; transparent?: boolean }

type Panel =
  | PanelOf<'bargauge', bargauge.Options, {}>
  | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | PanelOf<'stat', stat.Options, {}>
  | PanelOf<'state-timeline', statetimeline.Options, statetimeline.FieldConfig>
  | PanelOf<'table', table.Options, Partial<table.FieldConfig>>
  | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | TextPanel;

interface Row extends Omit<dashboard.RowPanel, 'panels' | 'datasource' | 'repeat'> { panels: Panel[]; gridPos: dashboard.GridPos }

// What the Prometheus data source reads of an annotation, beside what all have: @grafana/prometheus, annotations.ts.
interface PrometheusAnnotation extends Omit<dashboard.AnnotationQuery, 'target' | 'type'> {
  target: { expr: string; refId: string; interval?: string };
  titleFormat?: string;
  textFormat?: string;
  tagKeys?: string;
  useValueForTime?: boolean;
}

type Variable = Omit<dashboard.VariableModel, 'query'> & {
  query: string | { qryType: number; query: string; refId: string };
};

export interface Board extends Omit<dashboard.Dashboard, 'panels' | 'annotations' | 'templating' | 'snapshot'> {
  panels: Array<Panel | Row>;
  annotations: { list: Array<dashboard.AnnotationQuery | PrometheusAnnotation> };
  templating: { list: Variable[] };
  title: string;
  uid: string;
}
