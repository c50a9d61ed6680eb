// Puts the page into its document.

import { render } from 'preact';

import 'uplot/dist/uPlot.min.css';
import './page.css';
import { App } from './app';
import { applyTheme } from './keys';

applyTheme();
render(<App />, document.getElementById('page')!);
