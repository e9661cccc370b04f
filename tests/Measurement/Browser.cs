using System.Diagnostics;
using System.Net.WebSockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using Xunit;

namespace Kernels.Tests.Measurement;

/// <summary>Chromium without a window, driven by the DevTools protocol. A test that needs it where there is none is skipped, visibly.</summary>
internal sealed class Browser : IAsyncDisposable
{
    private static readonly string[] s_names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    private readonly Process _process;
    private readonly string _profile;
    private readonly ClientWebSocket _socket = new();
    private readonly List<string> _messages = [];
    private int _requests;
    private string? _session;

    private Browser(Process process, string profile) => (_process, _profile) = (process, profile);

    /// <summary>What the page wrote to the console, errors and exceptions that nobody caught, and what could not be loaded.</summary>
    public IReadOnlyList<string> Messages => _messages;

    /// <summary>Starts the browser and opens a page.</summary>
    /// <param name="file">A file of HTML.</param>
    public static async Task<Browser> Open(string file)
    {
        string? program = Environment.GetEnvironmentVariable("KERNELS_BROWSER") ?? (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
            .SelectMany(folder => s_names.Select(name => Path.Combine(folder, name))).FirstOrDefault(File.Exists);
        Assert.SkipWhen(program is null, "there is no browser: install chromium, or name one in KERNELS_BROWSER");
        string profile = Directory.CreateTempSubdirectory("kernels-browser-").FullName;
        string[] options =
        [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking",
            "--disable-component-update", "--remote-debugging-port=0", $"--user-data-dir={profile}", "--window-size=1280,900", "about:blank",
        ];
        Process process = Process.Start(new ProcessStartInfo(program, options) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        process.OutputDataReceived += (_, _) => { };
        process.BeginOutputReadLine();
        Browser browser = new(process, profile);
        try
        {
            await browser.Connect();
            await browser.Load(new Uri(Path.GetFullPath(file)).AbsoluteUri);
            return browser;
        }
        catch
        {
            await browser.DisposeAsync();
            throw;
        }
    }

    /// <summary>Runs a script in the page.</summary>
    /// <param name="script">An expression whose value JSON can hold.</param>
    public async Task<JsonNode?> Evaluate(string script)
    {
        JsonNode answer = await Ask("Runtime.evaluate", new JsonObject { ["expression"] = script, ["returnByValue"] = true });
        Assert.True(answer["exceptionDetails"] is null, answer.ToJsonString());
        return answer["result"]!["value"];
    }

    public async ValueTask DisposeAsync()
    {
        _socket.Dispose();
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
        }

        await _process.WaitForExitAsync();
        _process.Dispose();
        for (int attempt = 0; Directory.Exists(_profile) && attempt < 20; attempt++)
        {
            try
            {
                Directory.Delete(_profile, recursive: true);
            }
            catch (IOException)
            {
                // Its helpers write a little longer than it lives.
                await Task.Delay(50);
            }
        }
    }

    private async Task Connect()
    {
        const string Marker = "DevTools listening on ";
        List<string> said = [];
        while (await _process.StandardError.ReadLineAsync(TestContext.Current.CancellationToken) is string line)
        {
            said.Add(line);
            if (line.StartsWith(Marker, StringComparison.Ordinal))
            {
                // What it says from now on is not looked at, but must not fill the pipe.
                _ = _process.StandardError.ReadToEndAsync(CancellationToken.None);
                await _socket.ConnectAsync(new Uri(line[Marker.Length..]), TestContext.Current.CancellationToken);
                return;
            }
        }

        Assert.Fail($"the browser does not start: {string.Join('\n', said)}");
    }

    private async Task Load(string address)
    {
        JsonNode target = await Ask("Target.createTarget", new JsonObject { ["url"] = "about:blank" });
        JsonNode attached = await Ask("Target.attachToTarget", new JsonObject { ["targetId"] = target["targetId"]!.GetValue<string>(), ["flatten"] = true });
        _session = attached["sessionId"]!.GetValue<string>();
        foreach (string domain in new[] { "Page", "Runtime", "Log", "Network" })
        {
            await Ask($"{domain}.enable");
        }

        await Ask("Page.navigate", new JsonObject { ["url"] = address });

        // "complete" says that the scripts, style sheets and pictures of the page are there and have run.
        while ((await Evaluate("document.readyState + ' ' + location.href"))!.GetValue<string>() != $"complete {address}")
        {
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }

    private async Task<JsonNode> Ask(string method, JsonObject? parameters = null)
    {
        int id = ++_requests;
        JsonObject request = new() { ["id"] = id, ["method"] = method, ["params"] = parameters ?? [] };
        if (_session is not null)
        {
            request["sessionId"] = _session;
        }

        await _socket.SendAsync(JsonSerializer.SerializeToUtf8Bytes(request), WebSocketMessageType.Text, endOfMessage: true, TestContext.Current.CancellationToken);
        while (true)
        {
            JsonNode message = await Receive();
            if (message["id"]?.GetValue<int>() == id)
            {
                return message["result"] ?? throw new InvalidOperationException($"{method}: {message.ToJsonString()}");
            }

            Note(message);
        }
    }

    private void Note(JsonNode message)
    {
        JsonNode? parameters = message["params"];
        switch (message["method"]?.GetValue<string>())
        {
            case "Runtime.exceptionThrown" or "Runtime.consoleAPICalled" or "Network.loadingFailed":
            case "Log.entryAdded" when parameters!["entry"]!["level"]!.GetValue<string>() is "error" or "warning":
                _messages.Add(message.ToJsonString());
                break;
            case "Network.requestWillBeSent" when !parameters!["request"]!["url"]!.GetValue<string>().StartsWith("file:", StringComparison.Ordinal):
                _messages.Add($"asks for {parameters["request"]!["url"]}");
                break;
            default:
                break;
        }
    }

    private async Task<JsonNode> Receive()
    {
        using MemoryStream whole = new();
        byte[] buffer = new byte[1 << 16];
        while (true)
        {
            WebSocketReceiveResult part = await _socket.ReceiveAsync(new ArraySegment<byte>(buffer), TestContext.Current.CancellationToken);
            Assert.True(part.MessageType == WebSocketMessageType.Text, "the browser has closed the connection");
            whole.Write(buffer, 0, part.Count);
            if (part.EndOfMessage)
            {
                return JsonNode.Parse(whole.ToArray())!;
            }
        }
    }
}
