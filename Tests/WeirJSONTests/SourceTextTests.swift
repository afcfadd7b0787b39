import Testing
import WeirJSON
import WeirTesting

@Suite struct SourceTextTests {
    @Test func positionsCountLinesAndScalars() {
        let source = SourceText(Array("ab\né😀x\r\n\rz".utf8))
        func at(_ offset: Int) -> SourcePosition { source.position(at: offset) }
        #expect(at(0) == SourcePosition(line: 1, column: 1))
        #expect(at(2) == SourcePosition(line: 1, column: 3))
        #expect(at(3) == SourcePosition(line: 2, column: 1))
        #expect(at(5) == SourcePosition(line: 2, column: 2))
        #expect(at(9) == SourcePosition(line: 2, column: 3))
        #expect(at(12) == SourcePosition(line: 3, column: 1))
        #expect(at(13) == SourcePosition(line: 4, column: 1))
        #expect(at(14) == SourcePosition(line: 4, column: 2))
    }

    @Test func combiningScalarsAndCRLFCountAsWrittenNotAsCharacters() {
        let source = SourceText(Array("e\u{301}x\r\ny".utf8))
        #expect(source.position(at: 3) == SourcePosition(line: 1, column: 3))
        #expect(source.position(at: 5) == SourcePosition(line: 1, column: 5))
        #expect(source.position(at: 6) == SourcePosition(line: 2, column: 1))
    }

    @Test func offsetsOutsideTheTextAreMovedToItsEnds() {
        let source = SourceText(Array("a\nb".utf8))
        #expect(source.position(at: -5) == SourcePosition(line: 1, column: 1))
        #expect(source.position(at: 99) == SourcePosition(line: 2, column: 2))
        #expect(source.position(at: .max) == SourcePosition(line: 2, column: 2))
        #expect(SourceText([]).position(at: 0) == SourcePosition(line: 1, column: 1))
    }

    @Test func linesComeWithoutTheirLineBreaks() {
        let source = SourceText(Array("one\ntwo é\r\n\rfour\n".utf8))
        #expect((0...6).map(source.line) == ["", "one", "two é", "", "four", "", ""])
        #expect(source.lineCount == 5)
        #expect(SourceText([]).lineCount == 1)
        #expect(SourceText([]).line(1) == "")
    }

    @Test func invalidUTF8IsShownAsReplacement() {
        let source = SourceText([0x61, 0xFF, 0x62])
        #expect(source.line(1) == "a\u{FFFD}b")
        #expect(source.position(at: 2) == SourcePosition(line: 1, column: 3))
    }

    @Test func positionsAgreeWithACountFromTheStart() {
        let alphabet: [Unicode.Scalar] = ["a", "é", "😀", "\n", "\r", " "]
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<200 {
            var scalars = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 0..<20, using: &generator) {
                scalars.append(alphabet.randomElement(using: &generator) ?? "a")
            }
            let text = String(scalars)
            let source = SourceText(Array(text.utf8))
            var line = 1
            var column = 1
            var offset = 0
            for (index, scalar) in zip(scalars.indices, scalars) {
                let position = source.position(at: offset)
                #expect(
                    position == SourcePosition(line: line, column: column),
                    "\(text.debugDescription)"
                )
                offset += scalar.utf8.count
                let next = scalars.index(after: index)
                let isBeforeLF = next < scalars.endIndex && scalars[next] == "\n"
                if scalar == "\n" || (scalar == "\r" && !isBeforeLF) {
                    line += 1
                    column = 1
                } else {
                    column += 1
                }
            }
            #expect(source.lineCount == line)
        }
    }
}
