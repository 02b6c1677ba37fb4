"""lxml: callbacks from its C code into Python, and exceptions on their way back."""

import io
import threading
import traceback

from lxml import etree, html, objectify, sax

XML = "<root>" + "".join(f'<item n="{n}">text {n}<sub/></item>' for n in range(50)) + "</root>"


def events():
    counts = {}
    for event, element in etree.iterparse(io.BytesIO(XML.encode()),
                                          events=("start", "end", "start-ns")):
        counts[event, element.tag] = counts.get((event, element.tag), 0) + 1
    print(sorted(counts.items()))


def target():
    class Target:
        def __init__(self):
            self.log = []

        def start(self, tag, attributes):
            self.log.append(f"<{tag}{len(attributes)}")

        def end(self, tag):
            self.log.append(f"{tag}>")

        def data(self, data):
            self.log.append(data)

        def close(self):
            return "".join(self.log)

    print(etree.fromstring(XML, etree.XMLParser(target=Target())))


def functions_of_xpath():
    namespace = etree.FunctionNamespace("urn:test")

    @namespace
    def double(context, nodes):
        return [f"{node.text}{node.text}" for node in nodes] and len(nodes) * 2

    @namespace
    def fail(context, nodes):
        raise LookupError("from within XPath")

    root = etree.fromstring(XML)
    names = {"t": "urn:test"}
    print(root.xpath("t:double(//item)", namespaces=names))
    try:
        root.xpath("t:fail(//item)", namespaces=names)
    except LookupError as error:
        print(error, traceback.extract_tb(error.__traceback__)[-1].name)


def functions_of_xslt():
    class Extension(etree.XSLTExtension):
        def execute(self, context, node, input_node, output):
            output.text = (output.text or "") + "|" + input_node.get("n")
            self.process_children(context)

    sheet = etree.XML("""
        <xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"
                        xmlns:e="urn:e" extension-element-prefixes="e">
          <xsl:template match="/"><out><xsl:apply-templates select="//item"/></out></xsl:template>
          <xsl:template match="item"><e:extension/></xsl:template>
        </xsl:stylesheet>""")
    transform = etree.XSLT(sheet, extensions={("urn:e", "extension"): Extension()})
    print(str(transform(etree.fromstring(XML))))


def resolvers():
    class Resolver(etree.Resolver):
        def resolve(self, url, public, context):
            if url == "memory:fail":
                raise RuntimeError("no such document")
            return self.resolve_string("<!ENTITY e 'resolved'>", context)

    for url in ("memory:there", "memory:fail"):
        parser = etree.XMLParser(load_dtd=True)
        parser.resolvers.add(Resolver())
        try:
            print(etree.tostring(etree.fromstring(
                f'<!DOCTYPE r SYSTEM "{url}"><r>&e;</r>', parser)))
        except RuntimeError as error:
            print(error)


def classes_of_elements():
    class Item(etree.ElementBase):
        def _init(self):
            self.set("seen", str(int(self.get("seen", 0)) + 1))

        @property
        def number(self):
            return int(self.get("n"))

    lookup = etree.ElementNamespaceClassLookup()
    lookup.get_namespace(None)["item"] = Item
    parser = etree.XMLParser()
    parser.set_element_class_lookup(lookup)
    root = etree.fromstring(XML, parser)
    print(sum(item.number for item in root.iter("item")))


def streams():
    class Writer(sax.ContentHandler):
        def __init__(self):
            super().__init__()
            self.depth = self.deepest = 0

        def startElementNS(self, name, qname, attributes):
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)

        def endElementNS(self, name, qname):
            self.depth -= 1

    writer = Writer()
    sax.saxify(etree.fromstring(XML), writer)
    print(writer.deepest, writer.depth)
    output = io.BytesIO()

    def elements():
        with etree.xmlfile(output) as file:
            with file.element("root"):
                while True:
                    file.write((yield))

    generator = elements()
    next(generator)
    for n in range(5):
        generator.send(etree.Element("item", n=str(n)))
    generator.close()
    print(output.getvalue())


def threads():
    results = []

    def work(n):
        root = etree.fromstring(XML)
        results.append((n, len(root.xpath("//item[@n > $n]", n=n))))

    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(sorted(results))


def other_modules():
    page = html.fromstring("<p>a<a href='/b'>c</a><form><input name=d value=e></form>")
    page.make_links_absolute("http://host/")
    print([link[2] for link in page.iterlinks()], page.forms[0].form_values())
    root = objectify.fromstring("<a><b>1</b><b>2.5</b><c>true</c></a>")
    print(root.b + root.b[1], root.c and "true")


for test in (events, target, functions_of_xpath, functions_of_xslt, resolvers,
             classes_of_elements, streams, threads, other_modules):
    test()
