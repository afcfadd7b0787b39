import Testing
import WeirCore
import WeirJSON
import WeirValues

/// Keys and templates at the edge of what Redis reads as a hash tag.
struct KeyEdgeTests {
    @Test(arguments: ["{a}", "{a}{b}"])
    func aKeyWithoutTextOfItsOwnIsNeverEmpty(text: String) throws {
        let template = try KeyTemplate(text)
        let rows: [[Cell]] = [["", "", nil], ["%", "", nil], ["x", "", nil], ["{}", "", nil]]
        let made = try keys(template, letters, rows).compactMap(\.self)
        #expect(made.map { String(decoding: $0, as: UTF8.self) } == ["%", "%25", "x", "%7B%7D"])
        for key in made {
            #expect(template.matches(key))
            #expect(slot(of: template.sideKey(of: key)) == slot(of: key))
            #expect(!template.matches(template.sideKey(of: key)))
        }
        #expect(!template.matches([]))
        #expect(!template.matches(Array("%%".utf8)))
    }

    @Test(arguments: [("", false), ("%", true), ("%25", true), ("a", true), ("a%", false)])
    func aKeyOfOneValueIsThatValueOrAMark(key: String, isKey: Bool) throws {
        #expect(try KeyTemplate("{a}").matches(Array(key.utf8)) == isKey)
    }

    @Test(arguments: [
        ("{%}:", true), ("{x}:", true), ("{%25}:", true), ("{}:", false), ("{%%}:", false),
        ("{x%}:", false), ("{%x}:", false), ("{x}:{%}", false), ("{x}:%", false),
    ])
    func onlyAnEmptyTagHoldsAPercentSignAlone(key: String, isKey: Bool) throws {
        let template = try KeyTemplate("{{{a}{b}}}:{c}")
        #expect(template.matches(Array(key.utf8)) == isKey)
    }

    @Test(arguments: [
        "{{x}}{a}}}", "{{{a}}}{{{b}}}", "{{{{a}}}}:{b}", "{{x}}{{}}{a}", "k\0{a}", "{a\0}",
    ])
    func bracesAreOnePairAndNULIsRefused(text: String) {
        #expect(throws: ConfigIssue.self) { try KeyTemplate(text) }
    }

    @Test func faultsAreCountedInCharactersAndWarningsShowTheTemplate() throws {
        let issue = #expect(throws: ConfigIssue.self) { try KeyTemplate("é😀:{a") }
        #expect(issue?.message.contains("character 4 ") == true, "\(String(describing: issue))")
        #expect(try KeyTemplate("{a}-{b}").warning?.contains("\"{a}-{b}\"") == true)
    }
}
