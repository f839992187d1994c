/** The reader's choices, kept in this browser; a browser that keeps nothing still works. */

import { useEffect, useState } from "preact/hooks";

function recall<T extends string>(key: string, allowed: readonly T[], fallback: T): T {
  try {
    const kept = localStorage.getItem(`inferwatt.${key}`);
    return allowed.find((each) => each === kept) ?? fallback;
  } catch {
    return fallback;
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(`inferwatt.${key}`, value);
  } catch {
    // private windows and blocked storage: the choice lasts as long as the page
  }
}

/** A choice among words that outlives the page. */
export function useChoice<T extends string>(key: string, allowed: readonly T[], fallback: T): [T, (value: T) => void] {
  const [value, set] = useState(() => recall(key, allowed, fallback));
  return [
    value,
    (next: T) => {
      keep(key, next);
      set(next);
    },
  ];
}

export const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

/** The theme in force, on the root element for the style sheet; true where it is dark. */
export function useTheme(theme: Theme): boolean {
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const [prefersDark, setPrefersDark] = useState(media.matches);
  useEffect(() => {
    const listen = (event: MediaQueryListEvent): void => setPrefersDark(event.matches);
    media.addEventListener("change", listen);
    return () => media.removeEventListener("change", listen);
  }, []);
  const dark = theme === "dark" || (theme === "auto" && prefersDark);
  document.documentElement.dataset["theme"] = dark ? "dark" : "light";
  return dark;
}
