"""The histogram of two-sidedness on the card, as an SVG without scripts."""

from collections.abc import Sequence

PLOT_FILENAME = "two_sidedness.svg"
PLOT_BINS = 25
WIDTH, HEIGHT, MARGIN = 640, 240, 44


def two_sidedness_svg(latents: Sequence[int], d_sae: int) -> str:
    """
    Draw a histogram of min(p+, p-) / (p+ + p-) over the live latents; heights are square roots.

    Args:
        latents: Live latents in equal bins from 0 to 0.5.
        d_sae: Number of all latents.
    """
    bins, live, tallest = len(latents), sum(latents), max(*latents, 1)
    width, base = WIDTH - 2 * MARGIN, HEIGHT - MARGIN
    step, bars = width / bins, ""
    for place, count in enumerate(latents):
        height = (base - MARGIN) * (count / tallest) ** 0.5
        share = f"{0.5 * place / bins:.2f} to {0.5 * (place + 1) / bins:.2f}"
        bars += (
            f'<rect x="{MARGIN + place * step:.1f}" y="{base - height:.1f}" width="{step - 1:.1f}" '
            f'height="{height:.1f}"><title>{share}: {count:,} latents</title></rect>'
        )
    ticks = "".join(
        f'<text x="{MARGIN + width * share / 0.5:.0f}" y="{base + 16}" text-anchor="middle">{share:g}</text>'
        for share in (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    )
    label = f"Histogram of two-sidedness over {live:,} live latents of {d_sae:,}; the tallest bar has {tallest:,}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="12" fill="#333"><title>{label}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{MARGIN}" y="24">{live:,} live latents; tallest bar {tallest:,}, heights by the square root</text>'
        f'<g fill="#3b6fb6">{bars}</g>'
        f'<line x1="{MARGIN}" y1="{base}" x2="{WIDTH - MARGIN}" y2="{base}" stroke="#333"/>{ticks}'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">share of the weaker pole in a latent\'s firings '
        "(0.5 is even)</text></svg>\n"
    )
