// TrainingCurve: scrub through the steps of training runs, and read what the models wrote then.

/** The state of the model as plain values, every one of them allowed. */
function tcState(model) {
  const runs = model.get("runs");
  const fields = ["samples", "references", "labels", "prompts", "hidden", "smoothing", "step"];
  const state = Object.fromEntries(fields.map((field) => [field, model.get(field)]));
  const axes = Object.keys(TC_AXES).filter((axis) => runs.every((run) => run[axis]));
  const columns = runs.flatMap((run) => Object.keys(run));
  const evaluated = new Set(columns.filter((column) => column.startsWith("validation_")));
  evaluated.delete("validation_loss"); // is part of the loss
  const measures = [...Object.keys(TC_MEASURES), ...evaluated];
  const known = (value, allowed) => (allowed.includes(value) ? value : allowed[0]);
  return {
    ...state,
    runs,
    axes,
    measures,
    axis: known(model.get("axis"), axes),
    measure: known(model.get("measure"), measures),
    logX: model.get("log_x"),
    logY: model.get("log_y"),
    run: nlClampIndex(model.get("run"), runs.length),
  };
}

/** What the chart shows, for those who cannot tell from its looks. */
function tcKey(state) {
  const parts = [];
  if (state.measure in TC_MEASURES) {
    parts.push("浅线是记下的训练损失，深线是它的滑动平均");
    const evaluated = state.runs.some((run) => run.validation_loss);
    if (evaluated) parts.push("点是在验证集上量的");
    if (state.references.length) parts.push("虚线是拿来比较的");
  } else {
    parts.push("每个点是一次验证");
  }
  if (state.samples.length) parts.push("横轴上的三角是存下样本的步");
  return `${parts.join("；")}。`;
}

function tcFormula({ measure, smoothing }) {
  if (!(measure in TC_MEASURES)) return "";
  const beta = smoothing.toFixed(2);
  const rest = (1 - smoothing).toFixed(2);
  const average = `s ← ${beta} s + ${rest} 损失，画 s ÷ (1 − ${beta}ᵗ)`;
  return measure === "perplexity" ? `困惑度 = exp(损失)；${average}，再取 exp` : average;
}

function tcRender({ model, el }) {
  const figure = nlFigure({ model, el });
  const { root, scope } = figure;
  const complaint = tcComplaint(model.get("runs"));
  if (complaint) {
    const attributes = { class: "tc-complaint", role: "alert", "data-nl": "error" };
    root.append(nlElement("p", attributes, complaint));
    return figure.cleanup;
  }
  let state = tcState(model);
  let series = tcSeries(state);
  let stops = [];
  const shown = (run) => !state.hidden.includes(state.runs[run].name);
  const put = (traits) => nlPut(model, traits);
  const cursorX = () => tcPlace(state.runs[state.run], state.axis, state.step);
  const placeOf = (x) => {
    const places = stops.map((stop) => stop.x);
    return Math.max(0, tcNearest(places, places, x));
  };
  const stand = (stop, save = true) => {
    if (!stop) return;
    model.set("run", stop.run);
    model.set("step", stop.step);
    if (save) model.save_changes();
  };

  // Controls of the two axes and of the smoothing
  const options = state.measures.map((key) => [key, tcMeasureText(key, state.labels)]);
  const choose = options.length > 3 ? nlSelect : nlChoices;
  const measure = choose({
    name: "measure",
    label: "纵轴",
    options,
    value: state.measure,
    // A perplexity falls from thousands to tens: on a linear axis its end would be flat.
    onChange: (value) => put({ measure: value, log_y: value === "perplexity" }),
  });
  const axis = nlChoices({
    name: "axis",
    label: "横轴",
    options: state.axes.map((key) => [key, TC_AXES[key]]),
    value: state.axis,
    onChange: (value) => put({ axis: value }),
  });
  const log = (name, label, trait) =>
    nlCheckbox({
      name,
      label,
      checked: model.get(trait),
      onChange: (value) => put({ [trait]: value }),
    });
  const logY = log("log-y", "纵轴取对数", "log_y");
  const logX = log("log-x", "横轴取对数", "log_x");
  const smoothing = nlRange({
    name: "smoothing",
    label: "平滑 β",
    min: 0,
    max: 0.99,
    step: 0.01,
    value: state.smoothing,
    format: (value) => value.toFixed(2),
    onInput: (value) => put({ smoothing: value }),
  });
  const legend = tcLegend(state.runs, (name) => {
    const others = state.hidden.filter((hidden) => hidden !== name);
    put({ hidden: others.length < state.hidden.length ? others : [...others, name] });
  });

  // The chart and what moves its cursor
  const samplesAt = () => stops.map((stop, i) => (stop.sample ? i : -1)).filter((i) => i >= 0);
  const samplePlace = (way) => {
    const x = cursorX();
    const places = samplesAt().filter((i) => (way > 0 ? stops[i].x > x : stops[i].x < x));
    return way > 0 ? places[0] : places[places.length - 1];
  };
  const player = tcPlayer({
    onShare: (share) => stand(stops[Math.round(share * (stops.length - 1))], false),
    onRest: () => {
      const tenth = Math.min(stops.length - 1, placeOf(cursorX()) + Math.ceil(stops.length / 10));
      const next = samplesAt().length ? samplePlace(1) : tenth;
      stand(stops[next], false);
      return next !== undefined && next < stops.length - 1;
    },
    onChange: (playing) => {
      play.element.textContent = playing ? "⏸ 暂停" : "▶ 播放";
      if (!playing) model.save_changes();
      update();
    },
  });
  scope.add(player.stop);
  const moveTo = (place) => {
    player.stop();
    stand(stops[place]);
  };
  const chart = tcChart({
    onGrab: () => player.stop(),
    onMove: (x) => stand(stops[placeOf(x)]),
    onKey: (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const [at, last] = [placeOf(cursorX()), stops.length - 1];
      const ten = Math.max(1, Math.round(last / 10));
      const to = {
        ArrowLeft: at - 1,
        ArrowDown: at - 1,
        ArrowRight: at + 1,
        ArrowUp: at + 1,
        PageDown: at - ten,
        PageUp: at + ten,
        Home: 0,
        End: last,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab and the page have shortcuts on the same keys
      moveTo(Math.max(0, Math.min(last, to)));
    },
  });
  const sampleButton = (name, text, label, way) =>
    nlButton({ name, text, label, onClick: () => moveTo(samplePlace(way)) });
  const previous = sampleButton("previous", "◂ 样本", "上一处样本", -1);
  const next = sampleButton("next", "样本 ▸", "下一处样本", 1);
  const play = nlButton({
    name: "play",
    text: "▶ 播放",
    onClick: () => {
      if (player.running()) return player.stop();
      const [at, last] = [placeOf(cursorX()), stops.length - 1];
      if (at === last) stand(stops[0], false); // from the beginning again
      player.start(at === last ? 0 : at / last);
    },
  });
  const slider = nlRange({
    name: "step",
    label: "光标",
    min: 0,
    max: 1,
    step: 1,
    value: 0,
    format: (place) => (stops[place] ? tcPlaceText(state.axis, stops[place].x) : ""),
    onInput: (place) => moveTo(place),
  });
  slider.element.classList.add("tc-slider");

  const formula = nlElement("p", { class: "nl-formula", "data-nl": "formula" });
  const key = nlElement("p", { class: "nl-note", "data-nl": "key" });
  const readout = tcReadout(state.runs);
  const samples = tcSamples(series, (name) => state.prompts[name]);
  const group = (name, ...children) =>
    nlElement("div", { class: `nl-controls ${name}` }, ...children);
  const hasSamples = state.samples.length > 0;
  root.append(
    formula,
    group(
      "tc-axes",
      nlElement("div", { class: "tc-pair" }, measure.element, logY.element),
      nlElement("div", { class: "tc-pair" }, axis.element, logX.element),
      smoothing.element,
    ),
    legend.element,
    chart.element,
    key,
    group(
      "tc-transport",
      ...(hasSamples ? [previous.element, play.element, next.element] : [play.element]),
      slider.element,
    ),
    readout.element,
    samples.element,
  );

  let readings = [];
  const drawCursor = () => {
    const x = cursorX();
    const place = placeOf(x);
    readings = tcReadings(series, x);
    const text = tcPlaceText(state.axis, x);
    const visible = readings.filter((_, run) => shown(run));
    const losses = visible.map(({ loss }) => tcNumber(loss)).join("、");
    const current = visible.map(({ sample }) => sample);
    chart.point({ x, text, readings, current });
    chart.element.setAttribute("aria-valuemin", 0);
    chart.element.setAttribute("aria-valuemax", Math.max(0, stops.length - 1));
    chart.element.setAttribute("aria-valuenow", place);
    chart.element.setAttribute("aria-valuetext", losses ? `${text}，损失 ${losses}` : text);
    slider.input.max = String(Math.max(0, stops.length - 1));
    slider.set(place);
    previous.element.disabled = samplePlace(-1) === undefined;
    next.element.disabled = samplePlace(1) === undefined;
    play.element.disabled = stops.length < 2;
    const fields = tcFields(state.runs, state.measure, state.labels);
    readout.update({ readings, fields, shown });
    samples.update({ readings, shown, playing: player.running() });
  };
  const drawAll = () => {
    state = tcState(model);
    series = tcSeries(state);
    stops = tcStops(series, shown);
    measure.set(state.measure);
    axis.set(state.axis);
    logX.set(state.logX);
    logY.set(state.logY);
    smoothing.set(state.smoothing);
    smoothing.element.hidden = !(state.measure in TC_MEASURES);
    legend.update(state.hidden);
    formula.textContent = tcFormula(state);
    key.textContent = tcKey(state);
    const name = tcMeasureText(state.measure, state.labels);
    chart.draw({ ...state, series, shown, name, width: Math.max(240, chart.element.clientWidth) });
    drawCursor();
  };
  const update = nlCoalesce(drawAll);
  const move = nlCoalesce(() => {
    const run = nlClampIndex(model.get("run"), state.runs.length);
    state = { ...state, run, step: model.get("step") };
    drawCursor();
  });
  scope.follow(model, ["measure", "axis", "log_x", "log_y", "smoothing", "hidden"], update);
  scope.follow(model, ["run", "step"], move);

  let lastWidth = 0;
  const observer = new ResizeObserver(() => {
    if (chart.element.clientWidth === lastWidth) return;
    lastWidth = chart.element.clientWidth;
    drawAll();
  });
  observer.observe(chart.element);
  scope.add(() => observer.disconnect());
  drawAll();
  return figure.cleanup;
}

export default { render: tcRender };
