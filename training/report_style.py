"""The style sheet of the report: light or dark as the reader's system is, from a phone's width to paper.

Every colour of text has a contrast of at least 4.5 to its ground, every line at least 3; what a colour says is also
said by a shape, a dash pattern, a place or a word.
"""

SERIES = 10
"""Lines that can be told apart; further ones begin again."""

_COLOURS = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b2027;--soft:#59636f;--rule:#dfe3e8;--strong:#8b95a1;
--ours:#1d5fd1;--theirs:#a85208;--good:#126b3c;--bad:#b3261e;--good-back:#e6f4ec;--bad-back:#fcebe9;--note-back:#eef2f7;
--up:29,95,209;--down:194,98,16;--c1:#a85208;--c2:#0a7a5c;--c3:#7b3fe4;--c4:#5b6572;--c5:#b4156f;--c6:#646b00;
--c7:#007794;--c8:#9c2f2f;--c9:#3d4a9a}
@media(prefers-color-scheme:dark){:root{--page:#101318;--card:#181c22;--ink:#e7eaee;--soft:#a2acb8;--rule:#2b323b;
--strong:#697481;--ours:#79aeff;--theirs:#ffae63;--good:#5fd394;--bad:#ff8d85;--good-back:#15291f;--bad-back:#331c1b;
--note-back:#1e252e;--up:70,130,235;--down:205,110,30;--c1:#ffae63;--c2:#52d3a8;--c3:#c3a2ff;--c4:#a2acb8;--c5:#ff8cc6;
--c6:#d0d95c;--c7:#5ccdea;--c8:#ff9a94;--c9:#a9b5ff}}
"""

_TEXT = """
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Inter,sans-serif}
main,header,nav,footer{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:36px}h1{font-size:28px;line-height:1.25;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:20px;margin:0 0 4px;letter-spacing:-.005em}h3{font-size:15px;margin:26px 0 6px}figure+h3{margin-top:40px}
code{font:13px ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
.lead,.under,footer{color:var(--soft);margin:0 0 14px;max-width:104ch}
.verdict{display:inline-block;font-weight:700;padding:5px 14px;border-radius:999px;margin-bottom:14px}
.verdict.yes{background:var(--good-back);color:var(--good)}.verdict.no{background:var(--bad-back);color:var(--bad)}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;padding:0;margin:14px 0 0;font-size:14px}
a{color:var(--ours)}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:22px 24px;margin:20px 0}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:20px 0 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:12px 16px}
dt,.tile span{color:var(--soft);font-size:13px}dd{margin:0}.tile b{display:block;font-size:25px;line-height:1.35;
font-variant-numeric:tabular-nums;letter-spacing:-.01em}.tile span{display:block}
.warnings{list-style:none;padding:12px 18px;margin:16px 0 0;background:var(--bad-back);border-radius:10px}
.warnings li::before{content:"\\26A0\\FE0E\\00a0 ";color:var(--bad)}
.pass{color:var(--good);font-weight:600;white-space:nowrap}.fail{color:var(--bad);font-weight:600;white-space:nowrap}
ul.for,ul.against,ul.note{list-style:none;padding:0;margin:0}
ul.for li,ul.against li,ul.note li{position:relative;padding:6px 0 6px 28px;max-width:104ch}
ul.for li::before,ul.against li::before,ul.note li::before{position:absolute;left:2px;font-weight:700;width:18px;
text-align:center}
ul.for li::before{content:"+";color:var(--good)}ul.against li::before{content:"\\2212";color:var(--bad)}
ul.note li::before{content:"\\2022";color:var(--soft)}
footer{padding-top:8px;padding-bottom:48px;font-size:13px}
"""

_TABLES = """
.scroll{overflow-x:auto;margin:10px 0 0}.scroll:focus-visible{outline:2px solid var(--ours);outline-offset:3px}
table{border-collapse:collapse;font-size:14px;min-width:100%}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{padding:6px 12px 6px 0;text-align:left;border-bottom:1px solid var(--rule);vertical-align:middle}
thead th{color:var(--soft);font-weight:600;font-size:13px;vertical-align:bottom}
tbody th{font-weight:500;white-space:nowrap}.long{display:block;min-width:240px}
tr.ours th,tr.ours td{font-weight:650;background:color-mix(in srgb,var(--ours) 9%,transparent)}
tr.ours th{box-shadow:inset 3px 0 0 var(--ours);padding-left:10px}
.figures td,.figures thead th:not(:first-child){text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.figures td:last-child,.figures th:last-child{padding-right:4px}
.figures td:has(.track),.figures td:has(.ruler){width:34%;min-width:200px}
.figures thead th:not(:first-child){min-width:52px;white-space:normal}

.second thead th:nth-child(2),.third thead th:nth-child(3){text-align:center!important}
tfoot td{border-bottom:0;padding-top:0}
.track{height:24px;margin:-3px 0}.track svg{width:100%;height:100%;display:block;overflow:visible}
.ruler{position:relative;height:18px;font-size:12px;color:var(--soft)}
.ruler span{position:absolute;transform:translateX(-50%)}
.heat{font-variant-numeric:tabular-nums;font-size:13px}
.heat th,.heat td{padding:2px;text-align:right;border:0}.heat tbody th{padding-right:10px;text-align:left}
.heat td span,.heat td b{display:block;padding:7px 6px;border-radius:5px;white-space:nowrap;min-width:58px}
.heat .up{background:rgba(var(--up),calc(var(--w)*.5 + .04))}
.heat .down{background:rgba(var(--down),calc(var(--w)*.5 + .04))}
"""

_CHARTS = """
figure{margin:12px 0 0}.plot{position:relative;margin:0 4px 26px 58px}
.plot>svg{position:absolute;inset:0;width:100%;height:100%;display:block;overflow:visible}
path{vector-effect:non-scaling-stroke}
.grid{stroke:var(--rule);fill:none}.level{stroke:var(--strong);stroke-width:1.4;fill:none}
.line{fill:none;stroke-width:1.5;stroke-linejoin:round}.area{opacity:.4;stroke-width:1.4}
.y,.x{position:absolute;font-size:12px;line-height:16px;color:var(--soft);white-space:nowrap;
font-variant-numeric:tabular-nums}
.y{right:100%;margin-right:8px;transform:translateY(-50%)}.x{top:100%;margin-top:6px;transform:translateX(-50%)}
.hits{position:absolute;inset:0}.hits i{position:absolute;top:0;bottom:0}
.hits i:hover{box-shadow:inset 1px 0 0 var(--strong)}
.hits i:hover::after{content:attr(data-told);position:absolute;top:6px;left:calc(100% + 8px);z-index:3;white-space:pre;
font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;background:var(--card);color:var(--ink);
border:1px solid var(--strong);border-radius:8px;padding:8px 11px;box-shadow:0 4px 14px rgba(0,0,0,.16);
pointer-events:none}
.hits i.r:hover::after{left:auto;right:calc(100% + 8px)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 12px;font-size:13px;color:var(--soft)}
.legend label{display:inline-flex;align-items:center;gap:6px;cursor:pointer;white-space:nowrap}
.legend b{color:var(--ink);font-variant-numeric:tabular-nums}.legend input{margin:0;accent-color:var(--ours)}
.swatch{width:26px;height:8px}
.dot{stroke-width:11;stroke-linecap:round;fill:none}.square{stroke-width:9;stroke-linecap:square;fill:none}
.tick{stroke-width:3;fill:none}.whisker{stroke-width:2;fill:none}.band{opacity:.25;stroke:none}
.dot.ours,.tick.ours,.whisker.ours{stroke:var(--ours)}.square.theirs,.tick.theirs{stroke:var(--theirs)}
.band.theirs{fill:var(--theirs)}
.stack{position:relative}.row{display:flex;align-items:stretch;margin-bottom:12px}
.row .what{flex:0 0 92px;font-size:12px;color:var(--soft);align-self:center}
.row .plot{flex:1;margin:0 4px 0 58px}.row.axis .plot{height:0;margin-bottom:24px}
.over{position:absolute;top:0;bottom:24px;left:150px;right:4px}
.price{stroke:var(--ink);stroke-width:1.3}.held{fill:var(--ours)}
.area.exposure{fill:var(--ours);stroke:var(--ours)}
.line.disagreement{stroke:var(--theirs);stroke-width:1.1}
.vote.buy{fill:var(--ours)}.vote.sell{fill:var(--theirs)}
.turn{position:absolute;font-size:10px;line-height:10px;transform:translate(-50%,5px)}.turn.buy{color:var(--ours)}
.turn.sell{color:var(--theirs);transform:translate(-50%,-15px)}
.symbol+.symbol{border-top:1px solid var(--rule);margin-top:26px;padding-top:6px}
.mix{display:flex;height:30px;border-radius:6px;overflow:hidden;margin:8px 0;gap:2px;font-size:13px;color:var(--ink)}
.mix span{padding:4px 8px;overflow:hidden;white-space:nowrap;background:rgba(var(--up),.30)}
.mix .sell{background:rgba(var(--down),.30)}.mix .hold{background:var(--note-back)}
"""

_PLACES = """
@media(max-width:900px){.tiles{grid-template-columns:repeat(2,1fr)}}
@media(max-width:640px){main,header,nav,footer{padding-left:12px;padding-right:12px}section{padding:16px 14px}
h1{font-size:22px}.tiles{gap:8px}.tile{padding:10px 12px}.tile b{font-size:20px}
.plot{margin-left:44px}.row{display:block;margin-bottom:10px}.row .what{display:block}.row .plot{margin-left:44px}
.over{left:44px}.long{min-width:150px}.y,.x{font-size:11px}
.scroll tbody th{position:sticky;left:0;background:var(--card);z-index:1;
max-width:42vw;white-space:normal}.figures td:has(.track){min-width:170px}
tr.ours th{background:color-mix(in srgb,var(--ours) 9%,var(--card))}}
@media print{:root{color-scheme:light}body{background:#fff;font-size:11px}section{border:0;padding:8px 0}
figure,.scroll,.tile,tr{break-inside:avoid}.scroll{overflow:visible}table{font-size:9.5px}
nav,.legend input{display:none}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}h2{break-after:avoid}}
"""

_DASHES = ("", "", "7 3", "2 2", "", "9 3 2 3", "5 5", "12 4", "4 2 1 2", "3 6")


def _series() -> str:
    """Return the rules of the lines: their look, and what the legend does to each."""
    rules = [".s0{stroke:var(--ours);fill:none}.line.s0{stroke-width:2.6}.area.s0{fill:var(--ours)}"]
    for index in range(SERIES):
        if index:
            dash = f";stroke-dasharray:{_DASHES[index]}" if _DASHES[index] else ""
            rules.append(f".line.s{index}{{stroke:var(--c{index}){dash}}}")
        rules.append(f".chart:has(.k-s{index} input:not(:checked)) .plot .s{index}{{display:none}}")
        rules.append(f".chart:has(.k-s{index}:hover) .plot .line:not(.s{index}){{opacity:.14}}")
    return "".join(rules)


STYLE = _COLOURS + _TEXT + _TABLES + _CHARTS + _series() + _PLACES
