// The start of the page: builds its parts, then follows a run.

import { keepToken } from "./api.js";
import { App } from "./app.js";
import { PANELS } from "./panels/registry.js";
import { startTheme } from "./theme.js";
import { actionLog } from "./ui/actionlog.js";
import { alertLog } from "./ui/alertlog.js";
import { setDefinitions } from "./ui/definitions.js";
import { grid } from "./ui/grid.js";
import { header } from "./ui/header.js";
import { startHelp } from "./ui/help.js";
import { notices } from "./ui/notices.js";
import { actionAnnouncer, proposals } from "./ui/proposals.js";
import { runList } from "./ui/runlist.js";
import { announcer, statusBar } from "./ui/statusbar.js";

keepToken();
const app = new App(
  [...new Set(PANELS.flatMap((panel) => panel.metrics))],
  PANELS.flatMap((panel) => panel.history ?? []),
);

app.parts.push({ draw: () => setDefinitions(app.session.definitions) });
app.parts.push(header(app), notices(app), runList(app));
app.parts.push(grid(app, PANELS), proposals(app), actionLog(app), alertLog(app));
app.hiddenParts.push(statusBar(app), announcer(app), actionAnnouncer(app));

startTheme(app);
startHelp();
void app.start();
