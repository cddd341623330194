// Questions that the page asks. Each is a <dialog>: Escape closes it, the focus stays inside and goes
// back where it was.

import { avatar, h, iconButton } from './dom.js';

/** Opens a dialog; it is gone when it is closed. */
function open(title, ...children) {
  const id = `dialog-${crypto.randomUUID()}`;
  const dialog = h('dialog', { 'aria-labelledby': id });
  dialog.append(
    h('header', { class: 'side-head' }, h('h2', { id }, title), iconButton('close', 'Close', () => dialog.close())),
    ...children,
  );
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A form whose answer may be refused; the reason is shown in it. */
function form(fields, label, submit) {
  const problem = h('p', { class: 'problem', role: 'alert' });
  const button = h('button', { type: 'submit', class: 'button primary' }, label);
  const element = h('form', { class: 'form' }, ...fields, problem, h('div', { class: 'buttons' }, button));
  element.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = '';
    try {
      await submit();
      element.closest('dialog')?.close();
    } catch (error) {
      const wait = error.code === 'rate_limited' ? ` Try again in ${Math.ceil(error.retryAfterMs / 1_000)} s.` : '';
      problem.textContent = `${error.message}.${wait}`;
    }
    button.disabled = false;
  });
  return element;
}

const field = (label, input, hint) =>
  h('label', { class: 'field-label' }, h('span', {}, label), input, hint ? h('small', {}, hint) : null);

/** One's own name and status. */
export function profileDialog(model, { onSignOut, canSwitch }) {
  const user = model.user(model.me);
  const name = h('input', { name: 'name', maxlength: '80', required: true, autocomplete: 'off' });
  const status = h('input', { name: 'status', maxlength: '140', autocomplete: 'off', placeholder: 'What are you up to?' });
  name.value = user.name;
  status.value = user.status ?? '';
  const save = () => {
    const patch = {};
    if (name.value.trim() !== user.name) patch.name = name.value.trim();
    if (status.value.trim() !== (user.status ?? '')) patch.status = status.value.trim();
    return Object.keys(patch).length > 0 ? model.changeMe(patch) : null;
  };
  const out = h('button', { type: 'button', class: 'button', onclick: onSignOut }, canSwitch ? 'Be somebody else' : 'Sign out');
  open('You', form([field('Name', name), field('Status', status)], 'Save', save), h('div', { class: 'buttons apart' }, out));
}

export function channelDialog(model, onMade) {
  const name = h('input', { name: 'channel', maxlength: '80', required: true, autocomplete: 'off' });
  const closed = h('input', { type: 'checkbox', name: 'private' });
  const make = async () => onMade(await model.create(name.value.trim(), closed.checked ? 'private' : 'public'));
  open(
    'New channel',
    form([field('Name', name), h('label', { class: 'check' }, closed, ' Private: members see it, and nobody else')], 'Create', make),
  );
}

/** Chooses one of the people whom the page knows. */
export function personDialog(model, title, people, onChosen) {
  const list = h('ul', { class: 'people choose' });
  const problem = h('p', { class: 'problem', role: 'alert' });
  const filter = h('input', { 'aria-label': 'Find somebody', placeholder: 'Find somebody', autocomplete: 'off' });
  const draw = () => {
    const text = filter.value.trim().toLocaleLowerCase();
    const found = people.filter((user) => user.name.toLocaleLowerCase().includes(text)).slice(0, 100);
    list.replaceChildren(
      ...found.map((user) => {
        const onclick = async () => {
          try {
            await onChosen(user.id);
            dialog.close();
          } catch (error) {
            problem.textContent = `${error.message}.`;
          }
        };
        return h('li', {}, h('button', { type: 'button', 'data-user': user.id, onclick }, avatar(user), h('span', { class: 'name' }, user.name)));
      }),
    );
  };
  filter.addEventListener('input', draw);
  const dialog = open(title, filter, problem, list);
  draw();
  filter.focus();
}

const WORDS = {
  none: 'not stored yet',
  sent: 'sent',
  delivered: 'delivered',
  read: 'read',
};
const RANK = ['none', 'sent', 'delivered', 'read'];

/** How far a message came, by person: the furthest of their devices. */
export async function seenDialog(model, channel, seq) {
  const list = h('ul', { class: 'people' });
  const note = h('p', { class: 'muted' }, 'Asking…');
  open('Who has it', note, list);
  try {
    const { devices } = await model.api.status(channel, seq);
    const best = new Map();
    for (const { user, status } of devices) {
      const known = best.get(user);
      if (!known || RANK.indexOf(status) > RANK.indexOf(known)) best.set(user, status);
    }
    best.delete(model.me);
    await model.users.knowNow(best.keys());
    note.textContent = best.size === 0 ? 'Nobody else is told in so large a channel.' : '';
    list.replaceChildren(
      ...[...best]
        .sort(([, a], [, b]) => RANK.indexOf(b) - RANK.indexOf(a))
        .map(([id, status]) =>
          h('li', { 'data-user': id }, avatar(model.user(id)), h('span', { class: 'person' }, h('span', { class: 'name' }, model.nameOf(id))), h('span', { class: `tag ${status === 'read' ? '' : 'quiet'}` }, WORDS[status])),
        ),
    );
  } catch (error) {
    note.textContent = `It cannot be asked now: ${error.message}.`;
  }
}

/**
 * The page before the page: who are you? Where development sign-in is off it asks for a token.
 * @param {import('./auth.js').Auth} auth
 * @param {(idUser: string|null) => void} onDone
 */
export function signInPage(auth, onDone, message = '') {
  const problem = h('p', { class: 'problem', role: 'alert' }, message);
  let inside;
  if (auth.people) {
    const buttons = auth.people.map(({ id_user, user, name }) => {
      const onclick = async () => {
        try {
          await auth.signInAs(id_user);
          onDone(String(id_user));
        } catch (error) {
          problem.textContent = `${error.message}.`;
        }
      };
      return h('li', {}, h('button', { type: 'button', 'data-id-user': id_user, onclick }, avatar({ id: user, name }), h('span', { class: 'name' }, name)));
    });
    inside = [
      h('p', { class: 'muted' }, 'Development sign-in is on: choose who you are.'),
      h('ul', { class: 'people choose' }, ...buttons),
    ];
  } else {
    const token = h('textarea', { name: 'token', rows: '4', required: true, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'token-hint' });
    const take = async () => {
      auth.useToken(token.value);
      const state = await auth.check();
      if (state === 'good') {
        onDone(null);
        return;
      }
      auth.signOut();
      throw new Error(state === 'bad' ? 'The server does not take this token' : 'The server cannot be reached');
    };
    inside = [
      form([field('Token', token)], 'Sign in', take),
      h('p', { class: 'muted', id: 'token-hint' }, 'It stays in this tab and is gone when the tab is closed.'),
    ];
  }
  return h('main', { class: 'sign-in' }, h('h1', {}, 'Hubbub'), problem, ...inside);
}
