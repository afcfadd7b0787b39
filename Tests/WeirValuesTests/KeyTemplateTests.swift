import Testing
import WeirCore
import WeirJSON
import WeirValues

struct KeyTemplateTests {
    private func key(
        _ template: String, _ row: [Cell], _ schema: TableSchema = letters
    ) throws -> String? {
        try keys(KeyTemplate(template), schema, [row])[0].map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    @Test(arguments: [
        ("firstviscount:product:{a}", "firstviscount:product:1"), ("{a}", "1"),
        ("tenant:{b}:stock:{a}", "tenant:x:stock:1"), ("{{{b}}}:cart:{a}", "{x}:cart:1"),
        ("{{cart}}:{a}", "{cart}:1"), ("{a}{b}", "1x"), ("{{u-{b}-{a}}}", "{u-x-1}"),
        ("{a}:{a}", "1:1"), ("é{a}😀", "é1😀"), ("%{a}%", "%1%"),
    ])
    func aTemplateMakesAKey(template: String, key expected: String) throws {
        #expect(try key(template, ["1", "x", nil]) == expected)
    }

    @Test(arguments: [
        ("a:b", "a%3Ab"), ("{x}", "%7Bx%7D"), ("100%", "100%25"), ("%3A", "%253A"),
        ("\r\n\0\u{1F}\u{7F}", "%0D%0A%00%1F%7F"), ("é😀 -/\\*?[]\"'", "é😀 -/\\*?[]\"'"),
        ("\u{80}", "\u{80}"), ("", ""), ("*1\r\n$4\r\nQUIT\r\n", "*1%0D%0A$4%0D%0AQUIT%0D%0A"),
    ])
    func valuesAreEscaped(value: String, shown: String) throws {
        #expect(try key("k:{a}:", [.text(value), nil, nil]) == "k:\(shown):")
    }

    @Test func valuesArePlainTextBeforeTheyAreEscaped() throws {
        let schema = TableSchema.test([
            ("id", .int8), ("at", .timestamptz), ("on", .bool), ("data", .jsonb), ("raw", .text),
        ])
        let row: [Cell] = [
            "7", "2026-01-31 09:00:00+00", "t", #"{"a": {"b": ["x:\u007b"]}}"#, .binary([0, 0xFF]),
        ]
        #expect(try key("{id}:{at}", row, schema) == "7:2026-01-31T09%3A00%3A00+00%3A00")
        #expect(try key("{on}:{data.a.b.0}:{raw}", row, schema) == #"true:x%3A%7B:\x00ff"#)
    }

    @Test(arguments: [
        "", "orders", "{{orders}}", "{a", "a}", "x{", "{}", "{a}{}", "{a{b}}", "{{{a}", "{a}}}",
        "}}{a}{{", "{{}}:{a}", "x}}{a}", "{{{a}:{b}",
    ])
    func whatIsNoTemplateIsRefused(template: String) {
        let issue = #expect(throws: ConfigIssue.self) { try KeyTemplate(template) }
        #expect(issue?.field == "key")
        #expect(issue?.message.isEmpty == false && issue?.message.hasSuffix(".") == false)
    }

    @Test(arguments: [
        ("k:{a", "3"), ("k:a}b", "4"), ("k:{a}:{}", "7"), ("k:{a}:{b", "7"),
    ])
    func aFaultHasItsPlace(template: String, place: String) {
        let issue = #expect(throws: ConfigIssue.self) { try KeyTemplate(template) }
        #expect(issue?.message.contains("character \(place)") == true)
    }

    @Test(arguments: [
        ("{a}", true), ("{a}:{b}", true), ("x{a}-:-{b}y", true), ("{a}-{b}", false),
        ("{a}{b}", false), ("{a}:{b}-{c}", false), ("{a}%{b}", false), ("{a}%3A{b}", false),
        ("{{{a}}}{b}", true), ("{a}{{x}}{b}", true), ("{{{a}-{b}}}", false), ("-{a}-", true),
    ])
    func onlyCertainSeparatorsKeepRowsApart(template: String, isInjective: Bool) throws {
        let template = try KeyTemplate(template)
        #expect(template.isInjective == isInjective)
        #expect((template.warning == nil) == isInjective)
    }

    @Test func factsOfATemplate() throws {
        let template = try KeyTemplate("shop:{{{a}}}:{b.c}:x")
        #expect(template.hasHashTag)
        #expect(template.normalized == "shop:{{}}:{}:x")
        #expect(template.literalPrefix == Array("shop:{".utf8))
        #expect(try KeyTemplate("{a}:x").literalPrefix.isEmpty)
        #expect(try !KeyTemplate("{a}:x").hasHashTag)
        #expect(try KeyTemplate("k:{a}").normalized == KeyTemplate("k:{b.c}").normalized)
        #expect(try KeyTemplate("k:{a}").normalized != KeyTemplate("k:{a}:{b}").normalized)
    }

    @Test func aRowWithoutAValueHasNoKey() throws {
        #expect(try key("k:{a}:{b}", ["1", nil, "z"]) == nil)
        #expect(try key("k:{a}", [.unchanged, "x", "y"]) == nil)
        let schema = TableSchema.test([("data", .jsonb)])
        #expect(try key("k:{data.x}", [#"{"x":null}"#], schema) == nil)
        #expect(try key("k:{data.x}", ["{}"], schema) == nil)
        #expect(try key("k:{data.x}", [#"{"x":""}"#], schema) == "k:")
    }

    @Test func anUnknownColumnIsNamedWithItsTable() throws {
        let template = try KeyTemplate("k:{totl}")
        let error = #expect(throws: WeirError.self) { try template.compile(for: .orders) }
        #expect(error?.code == .unknownColumn)
        #expect(error?.disposition == .blocked)
        #expect(error?.message == #"column "totl" does not exist in table "public.orders""#)
        #expect(error?.hint == #"Did you mean "total"?"#)
    }

    @Test func columnsOfTheKeyAreKnownAsSuch() throws {
        let schema = TableSchema.test([("id", .int8), ("n", .text), ("x", .text)], key: [0, 2])
        for (text, isWithin) in [
            ("{id}", true), ("{x}:{id}", true), ("{id}:{n}", false), ("{n}:{id}", false),
        ] {
            let key = try KeyTemplate(text).compile(for: schema)
            #expect(key.columnsAreWithinKey == isWithin, "\(text)")
        }
        let keyless = TableSchema.test([("id", .int8)], key: [])
        #expect(try !KeyTemplate("{id}").compile(for: keyless).columnsAreWithinKey)
    }

    @Test func anEmptyHashTagIsMarked() throws {
        #expect(try key("{{{a}}}:{b}", ["", "x", nil]) == "{%}:x")
        #expect(try key("{{{a}}}:{b}", ["%", "x", nil]) == "{%25}:x")
        #expect(try key("{{{a}{b}}}:{c}", ["", "", "x"]) == "{%}:x")
        #expect(try key("{{{a}{b}}}:{c}", ["", "y", "x"]) == "{y}:x")
        #expect(try key("{{{a}:{b}}}", ["", "", nil]) == "{:}")
    }

    @Test func aSideKeyShowsItsKey() throws {
        #expect(try KeyTemplate("k:{a}").sideKey(of: Array("k:1".utf8)) == Array("{k:1}:v".utf8))
        let tagged = try KeyTemplate("{{{a}}}:{b}")
        #expect(tagged.sideKey(of: Array("{1}:2".utf8)) == Array("{1}:2:v".utf8))
    }

    @Test func patternsAreEscaped() throws {
        let template = try KeyTemplate(#"a*b?c[d]\^-{a}:{b}z"#)
        #expect(template.globPattern == Array(#"a\*b\?c\[d\]\\\^\-*:*z"#.utf8))
    }
}
