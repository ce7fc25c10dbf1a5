"""What simple English questions are about: the words for the forms of :mod:`multiway_text.bitdistill.prompts`."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.replace("\n", " ").split(",") if word.strip())


ANIMALS = _words("""dog, cat, horse, cow, pig, sheep, goat, chicken, duck, goose, turkey, rabbit, mouse, rat, hamster,
squirrel, fox, wolf, bear, polar bear, panda, lion, tiger, leopard, cheetah, elephant, giraffe,
zebra, hippo, rhino, monkey, gorilla, kangaroo, koala, camel, llama, deer, moose, bison, donkey,
bat, owl, eagle, hawk, parrot, penguin, ostrich, swan, crow, sparrow, robin, pigeon, seagull,
peacock, flamingo, snake, lizard, crocodile, turtle, frog, toad, fish, shark, whale, dolphin, seal,
octopus, squid, crab, lobster, shrimp, salmon, goldfish, starfish, jellyfish, snail, worm, ant, bee,
butterfly, spider, fly, mosquito, ladybug, beetle, dragonfly, grasshopper, cricket, scorpion,
hedgehog, otter, beaver, raccoon, skunk, badger, walrus, dinosaur""")

FOODS = _words("""apple, banana, orange, lemon, lime, grape, strawberry, blueberry, raspberry, cherry, peach, pear,
plum, pineapple, mango, watermelon, melon, coconut, kiwi, avocado, tomato, potato, carrot, onion,
garlic, cucumber, lettuce, cabbage, spinach, broccoli, pepper, pumpkin, corn, pea, bean, mushroom,
celery, beet, bread, cake, cookie, pie, pizza, pasta, noodle, rice, soup, salad, sandwich, burger,
hot dog, taco, sausage, bacon, steak, ham, egg, cheese, butter, milk, yogurt, ice cream, chocolate,
candy, honey, jam, sugar, salt, flour, oil, vinegar, coffee, tea, juice, water, lemonade, pancake,
waffle, muffin, donut, popcorn, cereal, oatmeal, nut, peanut, almond, olive, sushi, curry""")

UNCOUNTABLE = _words("""garlic, lettuce, cabbage, spinach, broccoli, corn, celery, bread, pasta, rice, soup, bacon,
cheese, butter, milk, yogurt, ice cream, chocolate, candy, honey, jam, sugar, salt, flour, oil, vinegar, coffee,
tea, juice, water, lemonade, popcorn, cereal, oatmeal, sushi, curry, steak, ham, soap, paper, glasses, stairs""")

THINGS = _words("""chair, table, bed, sofa, desk, lamp, door, window, wall, roof, floor, stairs, mirror, clock, watch,
phone, computer, laptop, keyboard, screen, camera, radio, television, book, notebook, pen, pencil,
eraser, ruler, paper, envelope, stamp, letter, map, bag, backpack, suitcase, wallet, key, lock,
umbrella, glasses, hat, cap, scarf, glove, coat, jacket, shirt, dress, skirt, sock, shoe, boot,
belt, ring, necklace, cup, mug, glass, plate, bowl, fork, knife, spoon, pan, pot, kettle, oven,
stove, fridge, freezer, toaster, blender, sink, bathtub, shower, towel, soap, toothbrush, comb,
broom, bucket, vacuum cleaner, washing machine, iron, hammer, nail, screw, screwdriver, saw, drill,
ladder, rope, candle, match, lighter, flashlight, battery, wheel, tire, engine, bicycle, car, bus,
truck, train, airplane, helicopter, boat, ship, submarine, rocket, tractor, motorcycle, skateboard,
tent, blanket, pillow, basket, box, bottle, jar, can, ball, kite, doll, puzzle, toy, drum, guitar,
piano, violin, flute, trumpet, telescope, microscope, compass, thermometer, calculator, magnet,
balloon, flag, coin, ticket, calendar, fan, heater, fence, gate, bench, swing, statue, painting,
brush""")

PLACES = _words("""school, library, hospital, bank, museum, park, zoo, farm, market, supermarket, restaurant, bakery,
hotel, airport, train station, bus stop, post office, police station, fire station, church, temple,
castle, palace, bridge, tunnel, harbor, beach, island, desert, forest, jungle, mountain, valley,
river, lake, ocean, waterfall, volcano, cave, garden, city, village, factory, office, theater,
cinema, stadium, gym, playground, lighthouse, pharmacy, kitchen, bedroom, bathroom, basement, attic,
garage, balcony, classroom, laboratory""")

JOBS = _words("""teacher, doctor, nurse, dentist, farmer, chef, baker, waiter, police officer, firefighter, soldier,
pilot, sailor, driver, mechanic, engineer, scientist, artist, painter, musician, singer, actor,
dancer, writer, journalist, photographer, lawyer, judge, carpenter, plumber, electrician, architect,
builder, gardener, librarian, astronaut, tailor, barber, cashier, programmer, veterinarian,
pharmacist, accountant, coach, fisherman, butcher, miner, postman""")

NATURE = _words("""rain, snow, wind, storm, lightning, thunder, rainbow, cloud, fog, ice, fire, smoke, sand, stone,
rock, mud, soil, gold, silver, iron, copper, diamond, coal, wood, glass, plastic, rubber, cotton,
wool, leather, oxygen, carbon, hydrogen, the sun, the moon, a star, a planet, a comet, the sky, the
Earth, Mars, Jupiter, Saturn, Venus, a galaxy, a tree, a flower, a rose, grass, a leaf, a seed, a
root, a cactus, bamboo, moss, an earthquake, a tornado, a hurricane, a flood, a glacier, a desert,
the tide, the north pole, sunlight, shadow, the seasons, spring, summer, autumn, winter""")

IDEAS = _words("""gravity, energy, electricity, light, sound, heat, time, space, speed, force, friction, magnetism, an
atom, a molecule, a cell, DNA, evolution, photosynthesis, digestion, the heart, the brain, the
lungs, blood, bones, muscles, the skin, the immune system, a vaccine, a virus, bacteria, a vitamin,
protein, sleep, exercise, a healthy diet, friendship, love, happiness, courage, honesty, kindness,
patience, respect, trust, hope, fear, anger, sadness, freedom, justice, democracy, a law, an
election, money, a tax, a budget, trade, inflation, history, geography, mathematics, algebra,
geometry, a fraction, a triangle, a circle, a square, physics, chemistry, biology, astronomy,
philosophy, art, music, poetry, a novel, a story, a metaphor, a noun, a verb, an adjective, grammar,
language, reading, writing, education, teamwork, leadership, creativity, a computer program, the
internet, a website, email, software, hardware, an algorithm, artificial intelligence, machine
learning, a robot, recycling, pollution, climate change, renewable energy, solar power, wind power,
farming, cooking, gardening, a holiday, a birthday, a festival, a tradition, culture, a hobby, a
game, chess, football, soccer, basketball, tennis, swimming, running, cycling, yoga, hiking,
camping, fishing, painting, dancing, singing, travel""")

ACTIONS = _words("""boil an egg, make tea, make coffee, bake a cake, cook rice, cook pasta, make a sandwich, make a
salad, make pancakes, wash my hands, brush my teeth, clean my room, wash the dishes, do the laundry,
iron a shirt, tie my shoes, ride a bike, learn to swim, plant a tree, water plants, grow tomatoes,
take care of a dog, take care of a cat, save money, make a budget, write a letter, write an email,
write a story, write a poem, read faster, learn a new language, learn new words, study for a test,
remember names, make new friends, be a good friend, say sorry, say thank you, be polite, be patient,
be happy, stay calm, relax, sleep better, wake up early, eat healthy, drink more water, lose weight,
build muscle, exercise at home, run faster, stretch, stop being late, manage my time, plan a trip,
pack a suitcase, read a map, use a compass, build a tent, start a campfire, stay safe in the sun,
stay warm in winter, stay cool in summer, save energy, save water, recycle, help the environment,
use a computer, make a strong password, stay safe online, learn to code, fix a flat tire, change a
light bulb, hang a picture, paint a wall, draw a cat, take good photos, play the guitar, play chess,
sing better, dance, give a speech, introduce myself, prepare for an interview, find a job, be a good
leader, work in a team, solve a problem, make a decision, deal with stress, deal with anger, help a
sad friend, treat a small cut, stop a nosebleed, treat a cold, choose a book, choose a gift, plan a
party, make a birthday card, make a paper airplane, wrap a present, set the table, store vegetables,
keep bread fresh, peel a mango""")

WHYS = _words("""is the sky blue, is grass green, is the sea salty, do we sleep, do we dream, do we eat, do we need
water, do we breathe, do birds fly, do birds sing, do cats purr, do dogs bark, do leaves fall in
autumn, do leaves change color, does it rain, does it snow, does the moon change shape, does the sun
rise in the east, is the sun hot, is ice cold, does ice float, do magnets stick, do things fall
down, do we have day and night, do we have seasons, do we have bones, do we have skin, does the
heart beat, do we sneeze, do we yawn, do we laugh, do we cry, do we get sick, do we get hungry, do
we need sleep, is exercise important, is reading important, is water important, is school important,
is friendship important, is honesty important, should we recycle, should we save water, should we be
kind, should we eat vegetables, should we brush our teeth, should we wash our hands, do bees make
honey, do spiders make webs, do fish live in water, do camels have humps, do giraffes have long
necks, do zebras have stripes, do bears sleep in winter, do trees need sunlight, do plants need
water, are deserts dry, are mountains cold, do volcanoes erupt, do earthquakes happen, do we use
money, do we pay taxes, do people travel, do people like music, do people tell stories, do people
have pets, do we celebrate birthdays, do airplanes fly, do ships float, do cars need fuel, do we
wear clothes""")

CAPITALS = dict(
    pair.strip().split(": ")
    for pair in """France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; England: London;
Ireland: Dublin; Scotland: Edinburgh; Wales: Cardiff; Belgium: Brussels; the Netherlands: Amsterdam;
Luxembourg: Luxembourg; Switzerland: Bern; Austria: Vienna; Poland: Warsaw; the Czech Republic:
Prague; Slovakia: Bratislava; Hungary: Budapest; Romania: Bucharest; Bulgaria: Sofia; Greece:
Athens; Turkey: Ankara; Russia: Moscow; Ukraine: Kyiv; Belarus: Minsk; Lithuania: Vilnius; Latvia:
Riga; Estonia: Tallinn; Finland: Helsinki; Sweden: Stockholm; Norway: Oslo; Denmark: Copenhagen;
Iceland: Reykjavik; Serbia: Belgrade; Croatia: Zagreb; Slovenia: Ljubljana; Albania: Tirana; Malta:
Valletta; Cyprus: Nicosia; the United States: Washington, D.C.; Canada: Ottawa; Mexico: Mexico City;
Cuba: Havana; Jamaica: Kingston; Guatemala: Guatemala City; Honduras: Tegucigalpa; Nicaragua:
Managua; Costa Rica: San José; Panama: Panama City; Colombia: Bogotá; Venezuela: Caracas; Ecuador:
Quito; Peru: Lima; Bolivia: Sucre; Chile: Santiago; Argentina: Buenos Aires; Uruguay: Montevideo;
Paraguay: Asunción; Brazil: Brasília; Morocco: Rabat; Algeria: Algiers; Tunisia: Tunis; Libya:
Tripoli; Egypt: Cairo; Sudan: Khartoum; Ethiopia: Addis Ababa; Kenya: Nairobi; Uganda: Kampala;
Tanzania: Dodoma; Rwanda: Kigali; Nigeria: Abuja; Ghana: Accra; Senegal: Dakar; Mali: Bamako;
Angola: Luanda; Zambia: Lusaka; Zimbabwe: Harare; Namibia: Windhoek; Botswana: Gaborone; Madagascar:
Antananarivo; Israel: Jerusalem; Lebanon: Beirut; Syria: Damascus; Jordan: Amman; Iraq: Baghdad;
Iran: Tehran; Saudi Arabia: Riyadh; Yemen: Sanaa; Oman: Muscat; Qatar: Doha; Kuwait: Kuwait City;
Afghanistan: Kabul; Pakistan: Islamabad; India: New Delhi; Nepal: Kathmandu; Bangladesh: Dhaka; Sri
Lanka: Colombo; Myanmar: Naypyidaw; Thailand: Bangkok; Vietnam: Hanoi; Cambodia: Phnom Penh; Laos:
Vientiane; Malaysia: Kuala Lumpur; Singapore: Singapore; Indonesia: Jakarta; the Philippines:
Manila; China: Beijing; Mongolia: Ulaanbaatar; North Korea: Pyongyang; South Korea: Seoul; Japan:
Tokyo; Kazakhstan: Astana; Uzbekistan: Tashkent; Georgia: Tbilisi; Armenia: Yerevan; Azerbaijan:
Baku; Australia: Canberra; New Zealand: Wellington; Fiji: Suva""".replace("\n", " ").split(";")
)

OPPOSITES = dict(
    pair.strip().split("/")
    for pair in """hot/cold, big/small, tall/short, long/short, wide/narrow, thick/thin, heavy/light, fast/slow,
high/low, old/young, new/old, good/bad, happy/sad, rich/poor, hard/soft, strong/weak, full/empty,
open/closed, wet/dry, clean/dirty, bright/dark, day/night, early/late, easy/difficult, loud/quiet,
near/far, left/right, up/down, in/out, on/off, yes/no, true/false, right/wrong, first/last,
begin/end, start/stop, come/go, give/take, buy/sell, push/pull, love/hate, win/lose, laugh/cry,
remember/forget, find/lose, arrive/leave, above/below, inside/outside, before/after, always/never,
many/few, more/less, alive/dead, awake/asleep, brave/cowardly, beautiful/ugly, cheap/expensive,
deep/shallow, friend/enemy, front/back, top/bottom, north/south, east/west, king/queen, man/woman,
boy/girl, brother/sister, success/failure, war/peace, question/answer, summer/winter,
sunrise/sunset, smooth/rough, sharp/dull, sweet/bitter, polite/rude, safe/dangerous, simple/complex,
public/private, increase/decrease, accept/refuse, arrive/depart, build/destroy, float/sink,
lead/follow, teach/learn""".replace("\n", " ").split(",")
)

FACTS = dict(
    pair.strip().split(": ", 1)
    for pair in """How many days are in a week?/How many days does a week have?: A week has seven days;
How many months are in a year?/How many months does a year have?: A year has twelve months;
How many hours are in a day?/How many hours does a day have?: A day has 24 hours;
How many minutes are in an hour?/How many minutes does an hour have?: An hour has 60 minutes;
How many seconds are in a minute?/How many seconds does a minute have?: A minute has 60 seconds;
How many days are in a year?/How many days does a year have?: A year has 365 days;
How many seasons are there?/What are the four seasons?: The four seasons are spring, summer, autumn and winter;
What are the days of the week?/Name the days of the week.: The days of the week are Monday, Tuesday, Wednesday,
Thursday, Friday, Saturday and Sunday;
What are the months of the year?/Name the months of the year.: The months of the year are January, February, March,
April, May, June, July, August, September, October, November and December;
What are the colors of the rainbow?/Name the colors of the rainbow.: The colors of the rainbow are red, orange,
yellow, green, blue, indigo and violet;
Count to ten./Count from one to ten.: One, two, three, four, five, six, seven, eight, nine, ten;
What color is the sky?/What is the color of the sky?: The sky is blue;
What color is grass?/What is the color of grass?: Grass is green;
What color is snow?/What is the color of snow?: Snow is white;
What color is blood?/What is the color of blood?: Blood is red;
What is the largest planet?/Which planet is the largest?: Jupiter is the largest planet;
Which planet do we live on?/On which planet do we live?: We live on the Earth;
What is the largest ocean?/Which ocean is the largest?: The Pacific is the largest ocean;
What is the tallest mountain?/What is the highest mountain?: Mount Everest is the highest mountain;
How many continents are there?/How many continents does the Earth have?: There are seven continents;
How many planets are there?/How many planets does the sun have?: There are eight planets""".replace(
        "\n", " "
    ).split(";")
)
FACTS = {questions: answer + "." for questions, answer in FACTS.items()}
"""Questions, with "/" between those of one answer -> the answer."""
