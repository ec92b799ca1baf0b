(() => {
  "use strict";
  // Shapes and sizes are told apart without colours; colours follow light and dark.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const withAlpha = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
  const phone = window.matchMedia("(max-width: 600px)");
  const charts = [];

  function dataset(series, paint) {
    const own = series.colour === null ? paint.grey : paint.colours[series.colour % paint.colours.length];
    const faint = series.chosen !== null;
    const each = (usual, chosen) => (faint ? series.points.map((_, i) => (i === series.chosen ? chosen : usual)) : usual);
    return {
      label: series.name,
      data: series.points.map(([x, y]) => ({ x, y })),
      said: series.labels,
      own,
      hollow: series.hollow,
      showLine: series.line,
      borderColor: own,
      borderWidth: 1.6,
      borderDash: series.dashed ? [6, 4] : [],
      pointStyle: series.mark,
      pointRadius: series.radii.length ? series.radii : each(series.dots ? 3 : 0, 7),
      pointHoverRadius: series.radii.length ? series.radii.map((r) => r + 2) : each(5, 9),
      pointBackgroundColor: series.colours.length ? series.colours : series.hollow ? paint.paper : each(faint ? withAlpha(own, 0.35) : own, own),
      pointBorderColor: series.colours.length ? paint.ink : each(series.hollow ? own : faint ? "transparent" : own, series.hollow ? own : paint.ink),
      pointBorderWidth: 1,
    };
  }

  function axis(spec, paint) {
    return {
      type: spec.log ? "logarithmic" : "linear",
      min: spec.range[0] ?? undefined,
      max: spec.range[1] ?? undefined,
      title: { display: true, text: spec.label, color: paint.soft },
      grid: { color: paint.line },
      border: { color: paint.line },
      ticks: { color: paint.soft, maxRotation: 0, includeBounds: false, precision: spec.whole ? 0 : undefined },
    };
  }

  function faceAxes(spec) {
    const points = spec.series.flatMap((series) => series.points).filter(([x]) => x !== null);
    const ends = [0, 1].map((k) => [Math.min(...points.map((p) => p[k])), Math.max(...points.map((p) => p[k]))]);
    const [x, y] = ends.map(([low, high]) => ({ display: false, min: low - 0.08 * (high - low), max: high + 0.08 * (high - low) }));
    return { scales: { x, y: { ...y, reverse: true } }, ratio: (x.max - x.min) / (y.max - y.min) };
  }

  // What has no name is background: lines that answer to nothing.
  function background(spec) {
    const lines = spec.series.filter((series) => series.name === "");
    return {
      id: "background",
      beforeDatasetsDraw({ ctx, scales: { x, y } }) {
        ctx.save();
        ctx.strokeStyle = colour("--grey");
        ctx.beginPath();
        for (const { points } of lines) {
          let pen = "moveTo";
          for (const [a, b] of points) {
            if (a !== null && b !== null) ctx[pen](x.getPixelForValue(a), y.getPixelForValue(b));
            pen = a === null || b === null ? "moveTo" : "lineTo";
          }
        }
        ctx.stroke();
        ctx.restore();
      },
    };
  }

  // As usual, but a series of faint dots has its full colour here.
  function names(chart, paint) {
    const usual = Chart.defaults.plugins.legend.labels.generateLabels(chart);
    return usual.map((item) => {
      const { own, hollow } = chart.data.datasets[item.datasetIndex];
      return { ...item, fillStyle: hollow ? paint.paper : own, strokeStyle: own, lineWidth: 1.5 };
    });
  }

  function settings(spec) {
    const paint = {
      ink: colour("--ink"), paper: colour("--paper"), soft: colour("--soft"), line: colour("--line"), grey: colour("--grey"),
      colours: [0, 1, 2, 3, 4, 5, 6].map((k) => colour(`--c${k}`)),
    };
    const named = spec.series.filter((series) => series.name);
    const face = spec.face ? faceAxes(spec) : null;
    const label = (item) => {
      const said = item.dataset.said[item.dataIndex];
      const at = `${item.formattedValue}`;
      return spec.face ? said : [item.dataset.label, ...(said ? said.split("\n") : [at])];
    };
    return {
      type: "scatter",
      data: { datasets: named.map((series) => dataset(series, paint)) },
      plugins: [background(spec)],
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: spec.face,
        aspectRatio: face ? face.ratio : undefined,
        interaction: { mode: "nearest", axis: "xy", intersect: false },
        scales: face ? face.scales : { x: axis(spec.x, paint), y: axis(spec.y, paint) },
        plugins: {
          legend: {
            display: !spec.face && named.length > 1,
            align: "start",
            position: named.length > 6 ? "bottom" : "top",
            labels: { color: paint.ink, usePointStyle: true, boxWidth: 8, boxHeight: 8, padding: phone.matches ? 8 : 12, font: { size: phone.matches ? 11 : 12 }, generateLabels: (chart) => names(chart, paint) },
          },
          tooltip: {
            displayColors: false,
            callbacks: { title: () => "", label },
          },
        },
      },
    };
  }

  // The arrow keys go from point to point and from series to series.
  function keys(chart, canvas, said) {
    const at = { series: 0, point: -1 };
    const length = () => chart.data.datasets[at.series].data.length;
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const jump = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") {
        at.point = -1;
        chart.setActiveElements([]);
        chart.tooltip.setActiveElements([], { x: 0, y: 0 });
        chart.update();
        return;
      }
      if (step === undefined && jump === undefined) return;
      event.preventDefault();
      const count = chart.data.datasets.length;
      if (jump) {
        let others = count;
        do at.series = (at.series + jump + count) % count;
        while (!chart.isDatasetVisible(at.series) && --others > 0);
        at.point = Math.max(0, Math.min(at.point, length() - 1));
      } else {
        let tries = length();
        do at.point = (at.point + step + length()) % length();
        while (chart.data.datasets[at.series].data[at.point].y === null && --tries > 0);
      }
      const active = [{ datasetIndex: at.series, index: at.point }];
      chart.setActiveElements(active);
      chart.tooltip.setActiveElements(active, { x: 0, y: 0 });
      chart.update();
      said.textContent = [].concat(...(chart.tooltip.body || []).map((part) => part.lines)).join(", ");
    });
  }

  for (const figure of document.querySelectorAll("figure.chart")) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    if (!spec.series.some((series) => series.points.some(([x, y]) => x !== null && y !== null))) continue;
    const box = document.createElement("div");
    box.className = spec.series.length > 6 && !spec.face ? "live tall" : "live";
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${spec.alt}. Arrow keys go from point to point.`);
    const said = document.createElement("p");
    said.className = "said unseen";
    said.setAttribute("aria-live", "polite");
    box.append(canvas);
    figure.querySelector(".still").after(box, said);
    try {
      const chart = new Chart(canvas, settings(spec));
      keys(chart, canvas, said);
      charts.push([chart, spec]);
    } catch (error) {
      box.remove(); // the picture is shown then
      said.remove();
      console.error(error);
    }
  }

  function repaint() {
    for (const [chart, spec] of charts) {
      const { data, options } = settings(spec);
      chart.options = options;
      data.datasets.forEach((one, k) => Object.assign(chart.data.datasets[k], one));
      chart.update();
    }
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  phone.addEventListener("change", repaint);

  // Some browsers play films of a page only as files of their own, and a poster is shown until then.
  for (const video of document.querySelectorAll("video")) {
    const poster = video.parentElement.querySelector(".poster");
    if (poster) video.poster = poster.src;
    const [head, body] = video.src.split(";base64,");
    if (!head.startsWith("data:") || body === undefined) continue;
    const bytes = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
    video.src = URL.createObjectURL(new Blob([bytes], { type: head.slice(5) }));
  }
})();
