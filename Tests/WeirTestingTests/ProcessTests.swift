import Foundation
import Glibc
import Testing

@testable import WeirTesting

@Suite struct ProcessTests {
    @Test func returnsOutputErrorsAndExitCode() throws {
        let result = try runProcess(
            "sh",
            ["-c", "cat; echo \"$A\" >&2; exit 7"],
            environment: ["A": "b"],
            stdin: "in"
        )
        #expect(result.status == .exited(7))
        #expect(result.stdout == "in")
        #expect(result.stderr == "b\n")
    }

    @Test func takesMoreOutputThanAPipeHolds() throws {
        let result = try runProcess("head", ["-c", "1000000", "/dev/zero"])
        #expect(result.stdout.utf8.count == 1_000_000)
    }

    @Test func tellsSignalFromExitCode() throws {
        #expect(try runProcess("sh", ["-c", "kill -9 $$"]).status == .signalled(SIGKILL))
        #expect(try runProcess("sh", ["-c", "exit 137"]).status == .exited(137))
    }

    @Test func startsInTheGivenFolder() throws {
        let folder = try TemporaryDirectory()
        #expect(try runProcess("pwd", directory: folder.path).stdout == "\(folder.path)\n")
    }

    @Test func missingProgramThrows() {
        #expect(throws: TestingError.self) { try runProcess("/nonexistent/program") }
    }

    @Test func endlessProgramIsKilledAtTheLimit() throws {
        #expect(throws: TestingError.self) {
            try runProcess("sleep", ["1000"], within: .milliseconds(50))
        }
    }

    @Test func childInheritsNoDescriptors() throws {
        let pipe = Pipe()
        // `ls` itself opens the folder it lists as the fourth.
        #expect(try runProcess("ls", ["/proc/self/fd"]).stdout == "0\n1\n2\n3\n")
        try pipe.fileHandleForWriting.close()
    }

    @Test func childRunsInTheBackgroundUntilSignalled() async throws {
        let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done"
        let child = try ChildProcess("sh", ["-c", script])
        try await eventually("the child is up") { try child.standardOutput() == "up\n" }
        #expect(child.isRunning)
        #expect(child.exitStatus == nil)
        child.signal(SIGTERM)
        #expect(try await child.wait() == .exited(3))
        #expect(!child.isRunning)
        #expect(child.exitStatus == .exited(3))
        #expect(try child.standardOutput() == "up\nbye\n")
        child.signal(SIGTERM)
    }

    @Test func waitThrowsAtTheLimitAndLeavesTheChildRunning() async throws {
        let child = try ChildProcess("sleep", ["1000"])
        await #expect(throws: TestingError.self) { try await child.wait(within: .milliseconds(20)) }
        #expect(child.isRunning)
    }

    @Test func forgottenChildIsKilledWithItsOwnChildren() async throws {
        let folder = try TemporaryDirectory()
        let output = folder.file("stdout")
        var child: ChildProcess? = try ChildProcess(
            "sh",
            ["-c", "sleep 1000 & echo $!; wait"],
            stdout: output
        )
        let pid = try #require(child?.pid)
        try await eventually("the grandchild has started") { try !readText(output).isEmpty }
        let grandchild = try #require(
            Int32(readText(output).trimmingCharacters(in: .whitespacesAndNewlines))
        )
        child = nil
        #expect(!isAlive(pid))
        try await eventually("the grandchild is gone") { !isAlive(grandchild) }
    }

    @Test func guardCleansUpOnlyWhatItStillWatches() async throws {
        let stopped = try ChildProcess("sleep", ["1000"])
        let spared = try ChildProcess("sleep", ["1000"])
        let removed = try TemporaryDirectory()
        let kept = try TemporaryDirectory()
        var orphans: OrphanGuard? = try OrphanGuard()
        for process in [spared, stopped] { orphans?.watch(process: process.pid, signal: "QUIT") }
        for folder in [kept, removed] { orphans?.watch(folder: folder.path) }
        orphans?.forget(process: spared.pid, signal: "QUIT")
        orphans?.forget(folder: kept.path)
        orphans = nil
        #expect(try await stopped.wait() == .signalled(SIGQUIT))
        try await eventually("the folder is gone") {
            !FileManager.default.fileExists(atPath: removed.path)
        }
        #expect(spared.isRunning)
        #expect(FileManager.default.fileExists(atPath: kept.path))
    }

    @Test func temporaryFolderGoesWithItsContents() throws {
        var folder: TemporaryDirectory? = try TemporaryDirectory()
        let file = try #require(try folder?.write("text", to: "a"))
        #expect(try readText(file) == "text")
        folder = nil
        #expect(!FileManager.default.fileExists(atPath: file))
    }

    @Test func portsAreGivenOnce() throws {
        let ports = try (0..<100).map { _ in try freePort() }
        #expect(Set(ports).count == 100)
    }

    @Test func eventuallyNamesWhatDidNotHappen() async throws {
        let error = await #expect(throws: TestingError.self) {
            try await eventually(within: .milliseconds(20), "pigs fly") { false }
        }
        #expect(error?.description == "not within 0.02 seconds: pigs fly")
        var calls = 0
        try await eventually("the third call") {
            calls += 1
            return calls == 3
        }
        #expect(calls == 3)
    }
}
