# One background job; prints its handle.
# perl queue.pl SERVERS FUNCTION [priority=high|low] [unique=U] < WORKLOAD
use strict;
use warnings;
use Gearman::Client;

my ($servers, $function, @options) = @ARGV;
my %option = map { split /=/, $_, 2 } @options;
my $workload = do { local $/; <STDIN> } // "";
my $client = Gearman::Client->new(job_servers => [split /,/, $servers]);
my $handle = $client->dispatch_background($function, \$workload, {
    uniq     => $option{unique}   // "",
    priority => $option{priority} // "normal",
}) or die "the job was not taken\n";
print $handle =~ s{.*//}{}r, "\n";
