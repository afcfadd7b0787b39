import Foundation
import Testing

/// How the code is written, as far as a machine can tell.
@Suite struct StyleTests {
    @Test func filesFunctionsAndLinesAreShort() throws {
        for file in try SourceFile.all(in: SourceFile.code) {
            if file.lines.count > 601 { Issue.record("\(file.path): \(file.lines.count) lines") }
            // A table of cases is as long as it is.
            for (line, length) in file.functions where length > (file.isTest ? 120 : 70) {
                Issue.record("\(file.path):\(line): a function of \(length) lines")
            }
            let parts = file.parts
            for (index, line) in file.lines.enumerated()
            where line.count > 100 && !parts[index].hasString && !line.contains("│") {
                Issue.record("\(file.path):\(index + 1): \(line.count) columns")
            }
        }
    }

    /// What is banned outside of tests, and what to do instead.
    private static let banned = [
        ("fatalError(", "throw, or precondition for an invariant of our own"),
        ("try!", "do and catch"),
        (" as! ", "as? with a guard"),
        ("unowned(unsafe)", "a strong reference"),
        ("Thread.sleep", "a wait that can be cancelled"),
        ("DispatchQueue", "an actor on its ThreadExecutor"),
    ]

    @Test func bannedCallsAreNotMade() throws {
        for file in try SourceFile.all(in: SourceFile.code) where !file.isTest {
            for (index, line) in file.code.enumerated() {
                for (call, instead) in Self.banned where line.contains(call) {
                    Issue.record("\(file.path):\(index + 1): \(call) is banned; use \(instead)")
                }
            }
        }
    }

    @Test func onlyProgramsPrint() throws {
        for file in try SourceFile.all(in: SourceFile.code) where !file.isTest {
            if ["Sources/weir/", "Sources/weir-bench/"].contains(where: file.path.hasPrefix) {
                continue
            }
            let code = file.code
            // A method of that name is another thing.
            if code.contains(where: { $0.contains("func print(") }) { continue }
            for (index, line) in code.enumerated() where calls("print", in: line) {
                Issue.record("\(file.path):\(index + 1): only the command line prints")
            }
        }
    }

    private func calls(_ function: String, in line: String) -> Bool {
        guard let range = line.range(of: function + "(") else { return false }
        guard range.lowerBound > line.startIndex else { return true }
        let before = line[line.index(before: range.lowerBound)]
        return !before.isLetter && !before.isNumber && before != "." && before != "_"
    }

    @Test func nothingIsLeftToDo() throws {
        let marks = ["TO" + "DO", "FIX" + "ME"]
        for file in try SourceFile.all(in: SourceFile.code) {
            for (index, line) in file.lines.enumerated()
            where marks.contains(where: line.contains) {
                Issue.record("\(file.path):\(index + 1): \(line)")
            }
        }
    }

    /// A reader of the project can open what its comments name: a page of it, or of the web.
    @Test func onlyWhatCanBeOpenedIsCited() throws {
        let item = #/\b(FLT|INV|CFG|SEC)-[A-Z]?[0-9]/#
        let pages = ["FAULTS", "DESIGN", "STYLE", "UX", "DELIVERY", "POSTGRES", "MONGODB"]
            .map { $0 + ".md" }
        for file in try SourceFile.all(in: SourceFile.code) where !file.path.contains("TidyTests") {
            for (index, line) in file.lines.enumerated()
            where line.contains(item) || pages.contains(where: line.contains) {
                Issue.record("\(file.path):\(index + 1): \(line)")
            }
        }
    }

    @Test func noPathOfOneMachineIsWrittenDown() throws {
        let paths = ["/wo" + "rk/", "/ro" + "ot/", "/opt/sw" + "ift"]
        let endings = [
            ".swift", ".md", ".json", ".modulemap", ".h", ".service", ".py", "/run", "setup",
        ]
        var files = try SourceFile.all(in: SourceFile.code + ["config"], endings: endings)
        files += try ["README.md", "Package.swift"].map(SourceFile.init)
        for file in files {
            for (index, line) in file.lines.enumerated()
            where paths.contains(where: line.contains) {
                Issue.record("\(file.path):\(index + 1): \(line)")
            }
        }
    }

    @Test func errorCodesAreUniqueAndDotted() throws {
        let pattern = /ErrorCode\(\s*"([^"]*)"/
        var places: [String: [String]] = [:]
        for file in try SourceFile.all(in: ["Sources", "connectors"]) {
            for match in file.text.matches(of: pattern) {
                places[String(match.1), default: []].append(file.path)
            }
        }
        #expect(places.count > 30)
        for (code, files) in places {
            #expect(files.count == 1, "\(code) is defined in \(files)")
            #expect(code.wholeMatch(of: /[a-z]+(\.[a-z0-9_]+)+/) != nil, "\(code)")
        }
    }
}
