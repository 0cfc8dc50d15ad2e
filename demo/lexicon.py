"""Words of the English-German grammar, one compact table per word class.

Many English words have several weighted German renderings, because references written by people vary
too. Often the most likely single rendering has another gender than the rest together ("das Auto" 42 %,
"der Wagen" 30 %, "der Personenwagen" 28 %): greedy decoding takes the article of the majority and then
has to choose among less likely nouns, while beam search finds the likeliest phrase. That is where the
demo model rewards a wider beam.
"""

from demo.words import parse_adjectives, parse_ambiguous, parse_nouns, parse_places, parse_verbs

PERSONS = parse_nouns("""
man/men: m Mann Männer
woman/women: f Frau Frauen
child/children: n Kind Kinder
girl: n Mädchen Mädchen
boy: m Junge Jungen weak
friend: 40 f Freundin Freundinnen|30 m Freund Freunde|30 m Kumpel Kumpel
neighbour: m Nachbar Nachbarn weak
teacher: 42 f Lehrerin Lehrerinnen|30 m Lehrer Lehrer|28 m Pädagoge Pädagogen weak
doctor: 42 f Ärztin Ärztinnen|30 m Arzt Ärzte|28 m Mediziner Mediziner
nurse: 42 f Krankenschwester Krankenschwestern|30 m Pfleger Pfleger|28 m Krankenpfleger Krankenpfleger
boss: 40 f Chefin Chefinnen|32 m Chef Chefs|28 m Leiter Leiter
customer: 40 f Kundin Kundinnen|32 m Kunde Kunden weak|28 m Käufer Käufer
cook: 42 f Köchin Köchinnen|30 m Koch Köche|28 m Küchenchef Küchenchefs
singer: 40 f Sängerin Sängerinnen|32 m Sänger Sänger|28 m Musiker Musiker
sister: f Schwester Schwestern
daughter: f Tochter Töchter
son: m Sohn Söhne
""")

ANIMALS = parse_nouns("""
dog: m Hund Hunde
cat: f Katze Katzen
bird: m Vogel Vögel
cow: f Kuh Kühe
bear: m Bär Bären weak
""")

THINGS = parse_nouns("""
car: 42 n Auto Autos|30 m Wagen Wagen|28 m Personenwagen Personenwagen
book: 42 n Buch Bücher|30 m Band Bände|28 m Roman Romane
picture: 42 n Bild Bilder|30 f Zeichnung Zeichnungen|28 f Abbildung Abbildungen
bag: 42 f Tasche Taschen|30 m Beutel Beutel|28 m Sack Säcke
present: 42 n Geschenk Geschenke|30 f Gabe Gaben|28 f Aufmerksamkeit Aufmerksamkeiten
newspaper: 42 f Zeitung Zeitungen|30 n Blatt Blätter|28 n Journal Journale
box: 42 f Kiste Kisten|30 m Kasten Kästen|28 m Karton Kartons
ticket: 42 f Karte Karten|30 n Ticket Tickets|28 n Billett Billetts
lamp: 42 f Lampe Lampen|30 n Licht Lichter|28 n Windlicht Windlichter
story: 42 f Geschichte Geschichten|30 n Märchen Märchen|28 n Erlebnis Erlebnisse
chair: m Stuhl Stühle
window: n Fenster Fenster
door: f Tür Türen
clock: f Uhr Uhren
bottle: f Flasche Flaschen
cup: f Tasse Tassen
knife/knives: n Messer Messer
apple: m Apfel Äpfel
flower: f Blume Blumen
tree: m Baum Bäume
stone: m Stein Steine
bicycle: n Fahrrad Fahrräder
plan: m Plan Pläne
cake: m Kuchen Kuchen
""")

AMBIGUOUS = parse_ambiguous("""
bat; nature: f Fledermaus Fledermäuse; sport: m Schläger Schläger
crane; nature: m Kranich Kraniche; craft: m Kran Kräne
letter; office: m Brief Briefe; school: m Buchstabe Buchstaben weak
bank; nature: n Ufer Ufer; office: f Bank Banken
table; home: m Tisch Tische; school: f Tabelle Tabellen
file; office: f Akte Akten; craft: f Feile Feilen
key; home: m Schlüssel Schlüssel; music: f Taste Tasten
match; sport: n Spiel Spiele; home: n Streichholz Streichhölzer
board; craft: n Brett Bretter; school: f Tafel Tafeln; office: m Vorstand Vorstände
spring; nature: f Quelle Quellen; craft: f Feder Federn
note; music: f Note Noten; office: f Notiz Notizen
record; music: f Schallplatte Schallplatten; sport: m Rekord Rekorde
""")

PLACES = parse_places("""
nature in in forest: m Wald Wälder
nature at an lake: m See Seen
nature in in zoo: m Zoo Zoos
office in in office: n Büro Büros
office in in company: f Firma Firmen
craft in in workshop: f Werkstatt Werkstätten
craft in in factory: f Fabrik Fabriken
sport in in stadium: n Stadion Stadien
sport in in gym: f Turnhalle Turnhallen
home in in kitchen: f Küche Küchen
home in in cellar: m Keller Keller
home in in garden: m Garten Gärten
school in in school: f Schule Schulen
school in in library: f Bibliothek Bibliotheken
music in in theatre: n Theater Theater
music in in opera: f Oper Opern
""")

TRANSITIVE = parse_verbs("""
buy bought bought: kaufen kauft kaufte gekauft
see saw seen: sehen sieht sah gesehen
find found found: finden findet fand gefunden
need needed needed: brauchen braucht brauchte gebraucht
paint painted painted: malen malt malte gemalt
clean cleaned cleaned: putzen putzt putzte geputzt
carry carried carried: tragen trägt trug getragen
forget forgot forgotten: vergessen vergisst vergaß vergessen
lose lost lost: verlieren verliert verlor verloren
steal stole stolen: stehlen stiehlt stahl gestohlen
break broke broken: zerbrechen zerbricht zerbrach zerbrochen
throw threw thrown away: weg+werfen wirft warf geworfen
bring brought brought along: mit+bringen bringt brachte gebracht
open opened opened: 62 auf+machen macht machte gemacht|38 öffnen öffnet öffnete geöffnet
close closed closed: 62 zu+machen macht machte gemacht|38 schließen schließt schloss geschlossen
look looked looked at: an+schauen schaut schaute geschaut
""")

SOCIAL = parse_verbs("""
meet met met: treffen trifft traf getroffen
call called called: an+rufen ruft rief gerufen
pick picked picked up: ab+holen holt holte geholt
invite invited invited: ein+laden lädt lud geladen
visit visited visited: besuchen besucht besuchte besucht
love loved loved: lieben liebt liebte geliebt
wake woke woken up: auf+wecken weckt weckte geweckt
recognise recognised recognised: wieder+erkennen erkennt erkannte erkannt
""")

DATIVE = parse_verbs("""
help helped helped: helfen hilft half geholfen
thank thanked thanked: danken dankt dankte gedankt
trust trusted trusted: vertrauen vertraut vertraute vertraut
follow followed followed: folgen folgt folgte gefolgt sein
answer answered answered: antworten antwortet antwortete geantwortet
listen listened listened to: zu+hören hört hörte gehört
""")

DITRANSITIVE = parse_verbs("""
give gave given: geben gibt gab gegeben
show showed shown: zeigen zeigt zeigte gezeigt
send sent sent: schicken schickt schickte geschickt
sell sold sold: verkaufen verkauft verkaufte verkauft
bring brought brought: bringen bringt brachte gebracht
explain explained explained to: erklären erklärt erklärte erklärt
return returned returned to: zurück+geben gibt gab gegeben
""")

INTRANSITIVE = parse_verbs("""
sleep slept slept: schlafen schläft schlief geschlafen
work worked worked: arbeiten arbeitet arbeitete gearbeitet
wait waited waited: warten wartet wartete gewartet
laugh laughed laughed: lachen lacht lachte gelacht
sing sang sung: singen singt sang gesungen
arrive arrived arrived: an+kommen kommt kam gekommen sein
get got got up: auf+stehen steht stand gestanden sein
fall fell fallen asleep: ein+schlafen schläft schlief geschlafen sein
""")

MOTION = parse_verbs("""
go went gone: gehen geht ging gegangen sein
run ran run: laufen läuft lief gelaufen sein
drive drove driven: fahren fährt fuhr gefahren sein
come came come back: zurück+kommen kommt kam gekommen sein
""")

ADJECTIVES = parse_adjectives("""
big groß,small klein,old alt,young jung,new neu,red rot,green grün,black schwarz,white weiß,blue blau
expensive teuer teur,cheap billig,dark dunkel dunkl,heavy schwer,dirty schmutzig,beautiful schön,ugly hässlich
strong stark,tired müde müd,happy glücklich,friendly freundlich,loud laut,famous berühmt,poor arm,long lang
""")
