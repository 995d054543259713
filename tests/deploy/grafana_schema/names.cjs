// Prints what Grafana knows by name: units, calculations and transformations.
globalThis.navigator = { language: 'en-US', languages: ['en-US'] }; // a formatter of dates asks the browser
const data = require('@grafana/data');

console.log(
  JSON.stringify({
    units: data.getValueFormats().flatMap((group) => group.submenu.map((unit) => unit.value)),
    calculations: data.fieldReducers.list().map((calculation) => calculation.id),
    transformations: Object.values(data.standardTransformers).map((transformer) => transformer.id),
  })
);
