"""Plain English sentences, facts and instructions, whose likelihood steering should not change."""

NEUTRAL_TEXTS = (
    "Bread dough rises because yeast turns sugar into gas, and the gas is caught in a net of gluten.",
    "The library opens at nine on weekdays and at ten on Saturdays, and it is closed on public holidays.",
    "Limestone is made of the shells of small sea animals that sank to the bottom millions of years ago.",
    "To change a tyre, loosen the nuts a little before the car is lifted, and tighten them once it is down again.",
    "The train leaves from platform four, stops at every station along the coast and takes about two hours.",
    "A map at a scale of one to fifty thousand shows each kilometre as two centimetres of paper.",
    "Copper wires carry electricity well, so they are used in most houses and in nearly all motors.",
    "Rain that falls on the western side of the hills flows into the lake, and the rest runs down to the sea.",
    "The recipe needs two eggs, a cup of flour, half a litre of milk and a pinch of salt.",
    "Glass is strong when it is pressed and weak when it is bent, which is why windows break so easily.",
    "In the northern part of the country the soil is sandy, and most farms grow potatoes or rye.",
    "The printer uses a laser to draw the page on a drum, and powder sticks wherever the light has been.",
)
