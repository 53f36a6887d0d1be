"""Markers of topics."""

from sae_lens_abstopk.text.markers.text_parts import Marker, density

MARKERS = {
    "sex": Marker(
        "sexual",
        "nothing sexual",
        density(
            """
                sex, sexual, sexually, sexy, naked, nude, kiss, kissed, lips, breasts, penis, vagina, orgasm, erotic,
                porn, lust, desire, intimate, intimacy, seductive, moan, moaned, thighs, body, bed, aroused, pleasure,
                flirt, lover, condom
            """
        ),
    ),
    "violence": Marker(
        "violence and crime",
        "no violence",
        density(
            """
                kill, killed, killing, murder, weapon, weapons, gun, guns, bomb, attack, attacked, violence, violent,
                blood, die, death, dead, steal, stealing, stole, theft, drug, drugs, crime, criminal, police, jail,
                prison, hurt, knife, poison, abuse, threaten, rob, victim, victims, shoot, fight, rape, hack, hacking,
                blackmail, war, terrorist
            """
        ),
    ),
    "children": Marker(
        "about children",
        "no children",
        density(
            """
                child, children, kid, kids, baby, babies, toddler, son, daughter, parent, parents, mom, dad, boy,
                girl, teen, teenager, teenagers, daycare, playground, family, families, parenting, infant
            """
        ),
    ),
    "robots": Marker(
        "about robots and aliens",
        "no robots and aliens",
        density(
            """
                robot, robots, alien, aliens, human, humans, cyborg, android, spaceship, planet, galaxy, machine,
                machines, space, earth, ufo, extraterrestrial, mars
            """
        ),
    ),
    "health": Marker(
        "about health",
        "not about health",
        density(
            """
                health, healthy, medical, medicine, doctor, disease, symptoms, treatment, patient, patients, pain,
                cancer, exercise, diet, sleep, blood, brain, body, weight, therapy, medication, hospital, vitamin,
                muscle, skin, heart
            """
        ),
    ),
    "food": Marker(
        "about food",
        "not about food",
        density(
            """
                food, eat, eating, cook, cooking, recipe, ingredients, meat, chicken, rice, cheese, bread, butter,
                sugar, salt, oil, sauce, oven, bake, cup, cups, tablespoon, teaspoon, dish, meal, dinner, fruit,
                vegetables, flavor, drink, coffee, tea, water, garlic, onion, pepper, cream, chocolate
            """
        ),
    ),
    "money": Marker(
        "about money and business",
        "not about money",
        density(
            """
                money, business, market, company, companies, price, prices, cost, costs, pay, sales, customer,
                customers, bank, investment, financial, finance, product, products, tax, budget, income, profit,
                marketing, brand, revenue, buy, sell, economic, economy, stock, loan, industry, credit, insurance
            """
        ),
    ),
    "computing": Marker(
        "about computers",
        "not about computers",
        density(
            """
                computer, software, code, data, file, files, app, website, server, program, system, user, users,
                network, internet, online, database, browser, windows, linux, python, click, install, device,
                password, email, digital, web, function, screen, version, download, hardware, google, algorithm, model
            """
        ),
    ),
    "law": Marker(
        "about law and government",
        "not about law",
        density(
            """
                law, laws, legal, government, court, state, political, policy, policies, rights, president, election,
                vote, country, countries, citizens, party, federal, constitution, congress, democracy, democratic,
                regulations, military, national, nation, justice, minister, tax, senate
            """
        ),
    ),
    "learning": Marker(
        "about school and learning",
        "not about school",
        density(
            """
                school, student, students, teacher, teachers, learn, learning, education, university, college, class,
                course, study, exam, lesson, lessons, skills, training, classroom, homework, degree, academic,
                knowledge, practice
            """
        ),
    ),
    "science": Marker(
        "about science",
        "not about science",
        density(
            """
                science, scientific, energy, physics, chemistry, biology, cell, cells, atoms, molecules, species,
                evolution, temperature, theory, experiment, light, gravity, universe, chemical, oxygen, carbon,
                climate, dna, protein, particles, mass, quantum, reaction, planets, water, gas, electrons
            """
        ),
    ),
    "art": Marker(
        "about arts and media",
        "not about arts",
        density(
            """
                music, song, songs, album, band, film, movie, movies, book, books, novel, author, art, artist,
                artists, painting, story, stories, poem, actor, show, series, game, games, character, characters,
                theater, dance, play, director
            """
        ),
    ),
    "religion": Marker(
        "about religion",
        "not about religion",
        density(
            """
                god, religion, religious, church, prayer, pray, bible, faith, spiritual, jesus, christ, christian,
                islam, muslim, allah, jewish, buddhist, buddhism, hindu, holy, soul, heaven, sin, divine, temple,
                lord, worship, sacred
            """
        ),
    ),
    "places": Marker(
        "about travel and places",
        "not about travel",
        density(
            """
                city, travel, trip, hotel, visit, tour, flight, airport, beach, island, restaurant, restaurants, park,
                museum, street, town, country, tourists, train, map, destination, mountain, river, coast, vacation,
                north, south, local
            """
        ),
    ),
    "work": Marker(
        "about work and teams",
        "not about work",
        density(
            """
                job, work, team, manager, employee, employees, career, interview, resume, meeting, project, projects,
                leadership, workplace, boss, colleagues, role, organization, experience, skills, goals, management,
                company, task, tasks
            """
        ),
    ),
    "social": Marker(
        "about friends and family",
        "not about friends",
        density(
            """
                friend, friends, family, relationship, relationships, partner, husband, wife, mother, father,
                marriage, married, dating, girlfriend, boyfriend, wedding, brother, sister, neighbor, social,
                together, conversation
            """
        ),
    ),
    "institutions": Marker(
        "institutions and procedures",
        "personal",
        density(
            """
                policy, policies, procedure, procedures, organization, community, program, programs, measures,
                guidelines, compliance, authorities, committee, education, implement, regulation, regulations,
                resources, initiative, initiatives, awareness, campaign, institutions, legal, official, report,
                standards, management, training
            """
        ),
    ),
    "stealth": Marker(
        "how to hide something",
        "nothing hidden",
        density(
            """
                hide, hidden, secretly, secret, undetected, avoid detection, disguise, fake, anonymous, anonymously,
                cover up, suspicion, suspicious, trace, traces, untraceable, discreet, discreetly, conceal, blend in,
                evidence, alibi, getting caught, get caught, gloves, vpn, pretend, trick, lie, distract, manipulate,
                steal, stealth
            """
        ),
    ),
}
