"""The picture on the card: how the firings of the latents divide between their poles, as an SVG without any script."""

from collections.abc import Sequence

PLOT_FILENAME = "two_sidedness.svg"
PLOT_BINS = 25
WIDTH, HEIGHT, MARGIN = 640, 240, 44


def two_sidedness_svg(latents: Sequence[int], d_sae: int) -> str:
    """
    A histogram of min(p+, p-) / (p+ + p-) over the live latents, by the square root: most of them may have no second side.

    Args:
        latents: Live latents in equal bins from 0 to 0.5.
        d_sae: All latents.
    """
    bins, live, tallest = len(latents), sum(latents), max(*latents, 1)
    inner_width, inner_height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    step = inner_width / bins
    base = HEIGHT - MARGIN
    bars = []
    for place, count in enumerate(latents):
        height = inner_height * (count / tallest) ** 0.5
        share = f"{0.5 * place / bins:.2f} to {0.5 * (place + 1) / bins:.2f}"
        bars.append(
            f'<rect x="{MARGIN + place * step:.1f}" y="{base - height:.1f}" width="{step - 1:.1f}" '
            f'height="{height:.1f}"><title>{share}: {count:,} latents</title></rect>'
        )
    label = f"Histogram of two-sidedness over {live:,} live latents of {d_sae:,}; the tallest bar has {tallest:,}"
    ticks = "".join(
        f'<text x="{MARGIN + inner_width * share / 0.5:.0f}" y="{base + 16}" text-anchor="middle">{share:g}</text>'
        for share in (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="12" fill="#333"><title>{label}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{MARGIN}" y="24">{live:,} live latents; tallest bar {tallest:,}, heights by the square root</text>'
        f'<g fill="#3b6fb6">{"".join(bars)}</g>'
        f'<line x1="{MARGIN}" y1="{base}" x2="{WIDTH - MARGIN}" y2="{base}" stroke="#333"/>{ticks}'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">share of the weaker pole in a latent\'s firings '
        "(0.5 is even)</text></svg>\n"
    )
